# loft, from this source tree: `pkgs.callPackage ./nix/package.nix { }`.
{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
}:
let
  manifest = builtins.fromTOML (builtins.readFile ../Cargo.toml);
  # What cargo reads; a change of the documentation builds nothing anew.
  needed = [
    "Cargo.lock"
    "Cargo.toml"
    "examples"
    "src"
    "tests"
  ];
  below = path: lib.removePrefix (toString ../. + "/") (toString path);
in
rustPlatform.buildRustPackage {
  pname = manifest.package.name;
  version = manifest.package.version;

  src = lib.cleanSourceWith {
    name = "loft-source";
    src = ../.;
    filter = path: _type: lib.elem (lib.head (lib.splitString "/" (below path))) needed;
  };
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [ installShellFiles ];

  # The others need servers, or take their time: `./test` runs them.
  cargoTestFlags = [
    "--lib"
    "--bins"
  ];

  # The program writes them itself, so that they tell what it does.
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    for shell in bash zsh fish; do
      $out/bin/loft completions $shell >loft.$shell
    done
    installShellCompletion loft.bash loft.zsh loft.fish
    mkdir man
    $out/bin/loft man --dir man
    installManPage man/*
  '';

  meta = {
    description = manifest.package.description;
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "loft";
    platforms = lib.platforms.linux ++ lib.platforms.darwin;
  };
}

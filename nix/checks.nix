# Checks with the real nixpkgs: `nix flake check`. Those that need none of it are in tests/real/nix_module.
{
  nixpkgs,
  pkgs,
  system,
  module,
}:
let
  machine = nixpkgs.lib.nixosSystem {
    inherit system;
    modules = [
      module
      ../tests/nix/example.nix
      {
        services.loft.postBuildHook.enable = true;
        # As little of a machine as evaluates.
        boot.loader.grub.enable = false;
        fileSystems."/".device = "none";
        system.stateVersion = "24.05";
      }
    ];
  };
  inherit (machine.config.services.loft) package;
  configFile = machine.config.environment.etc."loft/loft.toml".source;
  unit = machine.config.systemd.units."loft.service".unit;
in
{
  # The configuration of the example is what loft reads.
  module = pkgs.runCommand "loft-module" { } ''
    export CREDENTIALS_DIRECTORY=$PWD/credentials
    mkdir $CREDENTIALS_DIRECTORY
    for header in Id Secret; do
      echo text >$CREDENTIALS_DIRECTORY/loft.extra-header.CF-Access-Client-$header
    done
    ${package}/bin/loft --config ${configFile} config show --json >$out
    for expected in loft.extra-header.CF-Access-Client-Id nix-cache '"00:00"'; do
      grep -qF -- "$expected" $out || { echo "no $expected in what loft reads"; exit 1; }
    done
    grep -qF 'loft --config ${configFile} --debug hook' \
      ${machine.config.nix.settings.post-build-hook}
  '';

  # systemd's measure of the unit's exposure, in tenths.
  unit = pkgs.runCommand "loft-unit" { nativeBuildInputs = [ pkgs.systemd ]; } ''
    systemd-analyze security --offline=true --no-pager --threshold=20 ${unit}/loft.service >$out
  '';

  vm = import ./vm-test.nix { inherit pkgs module; };
}

# A closure of real packages and odd paths, built by a real Nix so that every reference is one that it found.
#
# Builders run with the machine's own programs and see their inputs below /inputs. `packages.nix`, beside
# this file, lists the Debian packages: { name, file, needs }, free of cycles.
let
  run = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-euc" script ];
    PATH = "/usr/bin:/bin";
  };

  packages = builtins.listToAttrs (map (package: {
    inherit (package) name;
    value = run package.storeName ''
      mkdir -p $out/nix-support
      dpkg-deb -x /inputs/${package.file} $out
      echo ${toString (map (need: packages.${need}) package.needs)} >$out/nix-support/propagated-build-inputs
    '';
  }) (import ./packages.nix));

  greeting = builtins.toFile "greeting" "hello from a text path\n";
  script = run "a-script" "cp /inputs/script $out; chmod +x $out";
  two = derivation {
    name = "two-outputs";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-euc" "mkdir $out $dev; echo lib >$out/lib; echo $out >$dev/needs" ];
    outputs = [ "out" "dev" ];
    PATH = "/usr/bin:/bin";
  };
  fixed = algorithm: derivation {
    name = "fixed-${algorithm}";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-euc" "printf 'fixed output, ${algorithm}' >$out" ];
    outputHashMode = "flat";
    outputHashAlgo = algorithm;
    outputHash = builtins.hashString algorithm "fixed output, ${algorithm}";
  };

  odd = {
    empty-file = run "empty-file" ": >$out";
    empty-directory = run "empty-directory" "mkdir $out";
    no-references = run "no-references" "echo alone >$out";
    self-reference = run "self-reference" "mkdir $out; echo $out >$out/me; ln -s $out/me $out/again";
    inherit script;
    link = run "a-symlink" "ln -s ${script} $out";
    dangling = run "a-dangling-symlink" "ln -s /nowhere/at/all $out";
    names = run "odd-names" ''
      mkdir $out
      cd $out
      for name in a a-b a.b ab A 'two words' '~nix~case~hack~1' "$(printf 'caf\351')" "$(printf '\377\376')" "$(printf 'two\nlines')" \
        "$(printf '%0255d' 7)"
      do printf '%s' "$name" >"./$name"; done
      mkdir "$(printf 'd\351part')" empty
      ln -s "$(printf 'caf\351')" "$(printf 'li\353n')"
      ln -s ../../.. up
    '';
    modes = run "modes" ''
      mkdir $out
      cd $out
      for mode in 400 444 500 555 644 700 755 654 645; do echo $mode >$mode; chmod $mode $mode; done
    '';
    deep = run "deep" ''
      mkdir $out
      cd $out
      for level in $(seq 60); do mkdir d; cd d; done
      echo bottom >file
    '';
    many = run "many-files" ''
      mkdir $out
      cd $out
      for folder in $(seq 30); do mkdir $folder; for file in $(seq 100); do echo $folder/$file >$folder/$file; done; done
    '';
    large = run "large" "mkdir $out; cp /inputs/large $out/large; echo ${greeting} >$out/needs";
    twin = run "twin-one" "echo the same bytes >$out";
    other-twin = run "twin-two" "echo the same bytes >$out";
    # With `.drv` the 211 characters that Nix allows.
    long-name = run (builtins.concatStringsSep "" (builtins.genList (n: "x") 207)) "echo long >$out";
    odd-name = run "odd?name=1+2_3.4-" "echo odd >$out";
    boundary = run "sizes-around-the-padding" ''
      mkdir $out
      for size in 0 1 7 8 9 15 16 17 4095 4096 4097 65535 65536 65537; do head -c $size /inputs/large >$out/$size; done
    '';
    inherit greeting;
    text = builtins.toFile "text-with-references" "${greeting}\n${builtins.toFile "other" "another\n"}\n";
    flat = builtins.path { path = ./corpus.nix; name = "flat-source"; recursive = false; };
    tree = builtins.path { path = ./tree; name = "tree-source"; };
    fixed-sha256 = fixed "sha256";
    fixed-sha1 = fixed "sha1";
    fixed-sha512 = fixed "sha512";
    two-outputs = two;
    dev = two.dev;
    derivation = run "names-a-derivation" "echo ${builtins.unsafeDiscardOutputDependency odd.no-references.drvPath} >$out";
  };

  gather = name: paths: run name "mkdir $out; echo ${toString paths} >$out/contents";
in
{
  # Everything, and the odd paths alone.
  everything = gather "everything" (builtins.attrValues packages ++ builtins.attrValues odd);
  odd = gather "odd-paths" (builtins.attrValues odd);

  # Many tiny paths and one huge one, for figures.
  bulk = gather "bulk" ([ (run "huge" "cp /inputs/huge $out") ]
    ++ builtins.genList (n: run "tiny-${toString n}" "echo tiny ${toString n} >$out") 1000);
}

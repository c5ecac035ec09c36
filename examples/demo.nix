# A small closure with real references: loft itself, its sources, and an environment that refers to both.
# Builders run with the machine's own programs and find this checkout as /checkout.
let
  run = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-euc" script ];
    PATH = "/usr/bin:/bin";
  };
  source = run "loft-source" "mkdir $out; cp -r /checkout/src /checkout/Cargo.toml /checkout/Cargo.lock $out";
  documents = run "loft-documents" "mkdir $out; cp /checkout/*.md /checkout/LICENSE-* $out; ln -s ${source} $out/source";
  program = run "loft" "mkdir -p $out/bin; cp /program $out/bin/loft; echo $out >$out/self; echo ${source} >$out/source";
in
run "loft-environment" ''
  mkdir $out
  ln -s ${program}/bin $out/bin
  ln -s ${documents} $out/documents
''

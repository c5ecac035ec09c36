# One package as nixpkgs would build it: programs, odd names, a log, and debug information in an output of its own.
let
  id = "07ff23386799818e59ab23df9d6e5da46ac0d251";
  rest = builtins.substring 2 38 id;
in
derivation {
  name = "package";
  system = builtins.currentSystem;
  outputs = [
    "out"
    "debug"
  ];
  builder = "/bin/sh";
  PATH = "/usr/bin:/bin";
  args = [
    "-euc"
    ''
      echo 'this is what the build printed'
      mkdir -p $out/bin $out/empty "$out/odd \"name\" ä" $debug/lib/debug/.build-id/07
      printf '#!/bin/sh\n' >$out/bin/run
      chmod +x $out/bin/run
      : >$out/nothing
      seq 100000 >$out/numbers
      ln -s ../bin/run "$out/odd \"name\" ä/link"
      ln -s $debug $out/debug
      echo DWARF >$debug/lib/debug/.build-id/07/${rest}.debug
      echo other >$debug/lib/debug/.build-id/07/other.debug
      echo 'and the end of it' >&2
    ''
  ];
}

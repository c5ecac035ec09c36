# loft without flakes: `nix-build`, or `import ./. { inherit pkgs; }`.
{
  pkgs ? import <nixpkgs> { },
}:
pkgs.callPackage ./nix/package.nix { }

{
  description = "Pushes Nix store paths into an S3 bucket that Nix reads as a binary cache";

  # loft needs a Rust as new as Cargo.toml says.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      linux = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      darwin = [
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      pkgsOf = system: nixpkgs.legacyPackages.${system};
      # Those that this nixpkgs has: x86_64-darwin goes away.
      forSystems = lib.genAttrs (
        lib.filter (system: nixpkgs.legacyPackages ? ${system}) (linux ++ darwin)
      );
      isLinux = system: lib.elem system linux;
    in
    {
      packages = forSystems (
        system:
        let
          loft = (pkgsOf system).callPackage ./nix/package.nix { };
        in
        {
          inherit loft;
          default = loft;
        }
        // lib.optionalAttrs (isLinux system) {
          # One file that runs on any Linux, and in an empty folder.
          static = (pkgsOf system).pkgsStatic.callPackage ./nix/package.nix { };
        }
      );

      overlays.default = final: _previous: {
        loft = final.callPackage ./nix/package.nix { };
      };

      nixosModules = rec {
        loft = ./nix/module.nix;
        default = loft;
      };
      darwinModules = rec {
        loft = ./nix/darwin.nix;
        default = loft;
      };
      homeModules = rec {
        loft = ./nix/home.nix;
        default = loft;
      };

      devShells = forSystems (
        system:
        let
          pkgs = pkgsOf system;
        in
        {
          default = pkgs.mkShell {
            inputsFrom = [ self.packages.${system}.loft ];
            packages = [
              pkgs.cargo-deny
              pkgs.cargo-nextest
              pkgs.clippy
              pkgs.rustfmt
            ];
          };
        }
      );

      checks = forSystems (
        system:
        {
          package = self.packages.${system}.loft;
        }
        // lib.optionalAttrs (isLinux system) (
          import ./nix/checks.nix {
            inherit nixpkgs system;
            pkgs = pkgsOf system;
            module = self.nixosModules.loft;
          }
        )
      );
    };
}

//! Every Nix file can be read, and the package and the flake hold what they promise.

use super::{evaluate_text, instantiate, instantiate_by, nix_files, tree};
use crate::support::nix::Nix;
use serde_json::{Value, json};

#[test]
#[ignore = "needs Nix: ./test"]
fn every_nix_file_parses() {
    let files = nix_files();
    assert!(files.len() >= 12, "{files:?}");
    for file in files {
        let ended = instantiate(&["--parse", file.to_str().expect("text")]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
}

/// Newer versions refuse and warn of more.
#[test]
#[ignore = "needs a recent Nix: ./test --full"]
fn recent_nix_reads_every_file_and_evaluates_alike() {
    let example = "import ./tests/nix/evaluate.nix { system = \"nixos\"; folder = \"/f\"; configuration = ./tests/nix/example.nix; }";
    let nix = Nix::recent();
    let recent = instantiate_by(&nix, &["--eval", "--strict", "--json", "--expr", example]);
    assert_eq!((recent.code, recent.stderr.as_str()), (Some(0), ""));
    let evaluated: Value = serde_json::from_str(&recent.stdout).expect("JSON");
    assert_eq!(evaluated, evaluate_text(example).expect("evaluates"));
    for file in nix_files() {
        let ended = instantiate_by(&nix, &["--parse", file.to_str().expect("text")]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    }
}

/// What the package is made of, with a stand-in for what builds it.
#[test]
#[ignore = "needs Nix: ./test"]
fn package_is_built_from_the_sources_alone() {
    let package = evaluate_text(
        "let lib = import ./tests/nix/lib.nix; pkgs = import ./tests/nix/pkgs.nix { inherit lib; folder = \"/f\"; }; \
             loft = import ./default.nix { inherit pkgs; }; \
             taken = path: loft.src.filter (toString ./. + \"/\" + path) \"regular\"; \
         in { inherit (loft) pname version postInstall; lock = toString loft.cargoLock.lockFile; \
              platforms = loft.meta.platforms; program = loft.meta.mainProgram; \
              taken = builtins.filter taken [ \"Cargo.toml\" \"Cargo.lock\" \"src\" \"src/lib.rs\" \"tests/it/main.rs\" \"examples/demo.nix\" ]; \
              left = builtins.filter taken [ \"target\" \"target/debug/loft\" \".git\" \"docs/nixos.md\" \"result\" \"nix/module.nix\" \"flake.nix\" ]; }",
    )
    .expect("the package");
    let manifest: toml::Table = include_str!("../../../Cargo.toml").parse().expect("Cargo.toml");
    assert_eq!(package["version"].as_str(), manifest["package"]["version"].as_str());
    assert_eq!((&package["pname"], &package["program"]), (&json!("loft"), &json!("loft")));
    assert_eq!(package["lock"], tree().join("Cargo.lock").display().to_string());
    assert_eq!(package["taken"].as_array().expect("files").len(), 6, "{package:#}");
    assert_eq!(package["left"], json!([]));
    let install = package["postInstall"].as_str().expect("text");
    for part in ["installShellCompletion", "bash zsh fish", "man --dir", "installManPage"] {
        assert!(install.contains(part), "{install}");
    }
}

const SYSTEMS: [&str; 4] = ["x86_64-linux", "aarch64-linux", "x86_64-darwin", "aarch64-darwin"];

/// The flake's outputs by name, with a nixpkgs of these systems; what they hold needs a real one.
fn outputs_with(systems: &[&str]) -> Value {
    let text = "let lib = import ./tests/nix/lib.nix; \
             nixpkgs = { inherit lib; legacyPackages = lib.genAttrs (builtins.fromJSON ''SYSTEMS'') \
               (system: import ./tests/nix/pkgs.nix { inherit lib; folder = \"/f\"; }); }; \
             flake = import ./flake.nix; \
             outputs = flake.outputs { self = outputs; inherit nixpkgs; }; \
             names = builtins.mapAttrs (name: builtins.attrNames); \
         in { inputs = builtins.attrNames flake.inputs; \
              packages = names outputs.packages; checks = names outputs.checks; devShells = names outputs.devShells; \
              modules = { nixos = names { inherit (outputs) nixosModules darwinModules homeModules overlays; }; }; \
              isModule = builtins.functionArgs (import outputs.nixosModules.loft); }";
    evaluate_text(&text.replace("SYSTEMS", &json!(systems).to_string())).expect("the flake")
}

#[test]
#[ignore = "needs Nix: ./test"]
fn flake_offers_what_is_documented() {
    let outputs = outputs_with(&SYSTEMS);
    assert_eq!(outputs["inputs"], json!(["nixpkgs"]));
    let modules = &outputs["modules"]["nixos"];
    assert_eq!(modules["nixosModules"], json!(["default", "loft"]));
    assert_eq!(
        (&modules["darwinModules"], &modules["homeModules"]),
        (&json!(["default", "loft"]), &json!(["default", "loft"]))
    );
    assert_eq!(modules["overlays"], json!(["default"]));
    for system in SYSTEMS {
        let linux = system.ends_with("linux");
        let packages = if linux { json!(["default", "loft", "static"]) } else { json!(["default", "loft"]) };
        assert_eq!(outputs["packages"][system], packages, "{system}");
        assert_eq!(outputs["devShells"][system], json!(["default"]));
        let checks = if linux { json!(["module", "package", "unit", "vm"]) } else { json!(["package"]) };
        assert_eq!(outputs["checks"][system], checks, "{system}");
    }
    assert!(outputs["isModule"].get("config").is_some());
}

/// nixpkgs will not have x86_64-darwin for ever.
#[test]
#[ignore = "needs Nix: ./test"]
fn flake_evaluates_where_nixpkgs_lacks_a_system() {
    let outputs = outputs_with(&["x86_64-linux", "aarch64-darwin"]);
    for output in ["packages", "checks", "devShells"] {
        let systems: Vec<_> = outputs[output].as_object().expect(output).keys().collect();
        assert_eq!(systems, ["aarch64-darwin", "x86_64-linux"], "{output}");
    }
}

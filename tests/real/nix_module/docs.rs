//! What docs/nixos.md shows can be typed.

use super::{evaluate, instantiate, tree};

fn page() -> String {
    std::fs::read_to_string(tree().join("docs/nixos.md")).expect("docs/nixos.md")
}

/// The blocks of Nix, as whole expressions.
fn blocks() -> Vec<String> {
    let page = page();
    let blocks = page.split("```nix\n").skip(1).map(|rest| rest.split("```").next().expect("an end").to_owned());
    blocks.map(|block| if block.starts_with('{') { block } else { format!("{{\n{block}}}\n") }).collect()
}

#[test]
#[ignore = "needs Nix: ./test"]
fn documented_configurations_evaluate() {
    let blocks = blocks();
    let [flake, without_flakes, others @ ..] = blocks.as_slice() else { panic!("{blocks:#?}") };
    let module = format!(
        "builtins.elemAt (({flake}).outputs {{ nixpkgs.lib.nixosSystem = system: system; loft.nixosModules.loft = null; }})\
           .nixosConfigurations.builder.modules 1"
    );
    let first = evaluate("nixos", &module);
    assert_eq!((first.texts("/failed"), first.texts("/warnings")), (vec![], vec![]));
    assert_eq!(first.toml()["s3"]["bucket"].as_str(), Some("nix-cache"));
    let parsed = instantiate(&["--parse", "--expr", without_flakes]);
    assert_eq!(parsed.code, Some(0), "{}", parsed.stderr);
    assert!(!others.is_empty());
    for block in others {
        let merged = format!("{{ imports = [ ({module}) ({block}) ]; }}");
        let evaluated = evaluate("nixos", &merged);
        assert_eq!((evaluated.texts("/failed"), evaluated.texts("/warnings")), (vec![], vec![]), "{block}");
    }
}

# What docs/reference/module.md says of the options, fit for JSON: each system's own, and the key of `loft.toml` that
# each sets.
let
  lib = import ./lib.nix;
  pkgs = import ./pkgs.nix {
    inherit lib;
    folder = "/generated";
  };
  inherit (builtins)
    concatLists
    concatStringsSep
    isAttrs
    isList
    listToAttrs
    match
    toJSON
    ;

  optionsOf =
    module:
    (lib.evalModules {
      modules = [ module.system module.module ];
      specialArgs = { inherit pkgs; };
    }).options.services.loft;
  systems = import ./systems.nix { inherit lib pkgs; };
  trees = {
    "NixOS" = optionsOf {
      system = systems.nixos;
      module = ../../nix/module.nix;
    };
    "nix-darwin" = optionsOf {
      system = systems.darwin;
      module = ../../nix/darwin.nix;
    };
    "Home Manager" = optionsOf {
      system = systems.home;
      module = ../../nix/home.nix;
    };
  };

  # A value as it is written in Nix.
  attribute = name: if match "[A-Za-z_][A-Za-z0-9_-]*" name != null then name else toJSON name;
  written =
    value:
    if isAttrs value then
      "{ ${concatStringsSep "" (lib.mapAttrsToList (name: one: "${attribute name} = ${written one}; ") value)}}"
    else if isList value then
      "[ ${concatStringsSep "" (map (one: "${written one} ") value)}]"
    else
      toJSON value;

  # `give path option` of every option below, with dots between names.
  each =
    give: path: set:
    concatLists (
      lib.mapAttrsToList (
        name: option:
        let
          here = if path == "" then name else "${path}.${name}";
        in
        if (option._type or "") == "option" then [ (give here option) ] else each give here option
      ) set
    );
  describe = name: option: {
    inherit name;
    type = option.type.description;
    default = option.defaultText or (if option ? default then written option.default else null);
    example = if option ? example then written option.example else null;
    inherit (option) description;
  };

  # Every option set to its own name: where that turns up is what it sets.
  named =
    path: set:
    lib.mapAttrs (
      name: option:
      let
        here = if path == "" then name else "${path}.${name}";
      in
      if (option._type or "") == "option" then here else named here option
    ) set;
  marked = named "" trees."NixOS";
  cfg = marked // {
    extraConfig = { };
    signingKeyPaths = [ marked.signingKeyPaths ];
    s3 = marked.s3 // {
      extraHeaders.X = marked.s3.extraHeaders;
    };
    # A condition.
    pruning = marked.pruning // {
      enable = true;
      method = "service";
    };
  };
  settings = import ../../nix/settings.nix { inherit lib cfg; };
  # A list or table of one holds it.
  holds =
    value:
    if value == true then
      "pruning.enable"
    else if isList value then
      lib.head value
    else if isAttrs value then
      value.X
    else
      value;
  keys = concatLists (
    lib.mapAttrsToList (
      section: values:
      lib.mapAttrsToList (key: value: {
        name = holds value;
        value = "${section}.${key}";
      }) values
    ) settings
  );
in
{
  options = lib.mapAttrs (_system: each describe "") trees;
  keys = listToAttrs keys;
}

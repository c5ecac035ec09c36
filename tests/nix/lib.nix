# Stands in for the part of nixpkgs' library that loft's modules use. nixpkgs itself cannot be had where these tests
# run, so this is its documented behaviour, written anew and kept small; flake.nix has the checks with the real one.
let
  inherit (builtins)
    all
    attrNames
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    genList
    hasAttr
    head
    isAttrs
    isBool
    isInt
    isList
    isString
    length
    listToAttrs
    mapAttrs
    match
    replaceStrings
    split
    stringLength
    substring
    ;
  # `stringToCharacters`
  characters = text: genList (index: substring index 1 text) (stringLength text);
  upper = characters "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  lower = characters "abcdefghijklmnopqrstuvwxyz";

  describe = value: if isAttrs value && value ? outPath then "${value}" else builtins.toJSON value;
  unique = foldl' (known: value: if elem value known then known else known ++ [ value ]) [ ];

  # A definition with its priority, once conditions are decided. Lower ones win.
  discharge =
    priority: value:
    let
      kind = if isAttrs value then value._type or "" else "";
    in
    if kind == "if" then
      (if value.condition then discharge priority value.content else [ ])
    else if kind == "merge" then
      concatMap (discharge priority) value.contents
    else if kind == "override" then
      discharge value.priority value.content
    else
      [ { inherit priority value; } ];

  # Conditions and priorities of an attribute set, moved to its attributes without being looked at.
  pushDown =
    value:
    let
      kind = if isAttrs value then value._type or "" else "";
      within = wrap: map (mapAttrs (_name: content: wrap content)) (pushDown value.content);
    in
    if kind == "if" then
      within (content: value // { inherit content; })
    else if kind == "merge" then
      concatMap pushDown value.contents
    else if kind == "override" then
      within (content: value // { inherit content; })
    else
      [ value ];

  # The value of an option from its definitions.
  mergeDefinitions =
    path: type: definitions:
    let
      discharged = concatMap (discharge 100) definitions;
      best = foldl' (least: one: if one.priority < least then one.priority else least) 10000 discharged;
      values = map (one: one.value) (filter (one: one.priority == best) discharged);
      wrong = filter (value: !type.check value) values;
    in
    if values == [ ] then
      throw "The option `${path}' is used but not defined."
    else if wrong != [ ] then
      throw "A definition for option `${path}' is not of type `${type.description}': ${describe (head wrong)}"
    else
      type.merge path values;

  one =
    path: values:
    if length (unique values) == 1 then
      head values
    else
      throw "The option `${path}' has conflicting definition values.";
  simple = description: check: {
    inherit check description;
    merge = one;
  };

  types = rec {
    bool = simple "boolean" isBool;
    int = simple "signed integer" isInt;
    str = simple "string" isString;
    path = simple "path" (
      value: builtins.isPath value || (isString value && substring 0 1 value == "/")
    );
    package = simple "package" (value: isAttrs value && value ? outPath);
    enum =
      values: simple "one of ${concatStringsSep ", " (map builtins.toJSON values)}" (value: elem value values);
    nullOr = type: {
      description = "null or ${type.description}";
      check = value: value == null || type.check value;
      merge = path: values: if all (value: value == null) values then null else type.merge path values;
    };
    either = left: right: {
      description = "${left.description} or ${right.description}";
      check = value: left.check value || right.check value;
      merge = path: values: (if all left.check values then left else right).merge path values;
    };
    listOf = type: {
      description = "list of ${type.description}";
      check = isList;
      merge = path: values: map (value: mergeDefinitions "${path}.[]" type [ value ]) (concatLists values);
    };
    attrsOf = type: {
      description = "attribute set of ${type.description}";
      check = value: isAttrs value && !(value ? outPath);
      merge =
        path: values:
        let
          sets = concatMap pushDown values;
          names = unique (concatMap attrNames sets);
          definitions = name: map (set: set.${name}) (filter (hasAttr name) sets);
          # An attribute whose condition does not hold is not there.
          isDefined = name: concatMap (discharge 100) (definitions name) != [ ];
        in
        listToAttrs (
          map (name: {
            inherit name;
            value = mergeDefinitions "${path}.${name}" type (definitions name);
          }) (filter isDefined names)
        );
    };
  };

  # The options and the configuration of modules, as far as loft's need it.
  evalModules =
    { modules, specialArgs }:
    let
      arguments = specialArgs // {
        inherit lib;
        config = result;
      };
      load =
        module:
        let
          loaded = if isAttrs module || builtins.isFunction module then module else import module;
          set = if builtins.isFunction loaded then loaded arguments else loaded;
          isLong = set ? options || set ? config || set ? imports;
          long = if isLong then set else { config = set; };
          strange = filter (name: !elem name [ "imports" "options" "config" ]) (attrNames long);
        in
        if strange != [ ] then
          throw "A module has `${head strange}' beside options, config and imports."
        else
          [ long ] ++ concatMap load (long.imports or [ ]);
      loaded = concatMap load modules;
      declared = foldl' recursiveUpdate { } (map (module: module.options or { }) loaded);

      valuesOf =
        path: options: definitions:
        let
          sets = concatMap pushDown definitions;
          unknown = filter (name: !hasAttr name options) (concatMap attrNames sets);
          at = name: if path == "" then name else "${path}.${name}";
          value =
            name: option:
            let
              defined = map (set: set.${name}) (filter (hasAttr name) sets);
              default = if option ? default then [ (mkOverride 1500 option.default) ] else [ ];
            in
            if (option._type or "") == "option" then
              mergeDefinitions (at name) option.type (defined ++ default)
            else
              valuesOf (at name) option defined;
        in
        if unknown != [ ] then
          throw "The option `${at (head unknown)}' does not exist."
        else
          mapAttrs value options;
      result = valuesOf "" declared (map (module: module.config or { }) loaded);
    in
    {
      options = declared;
      config = result;
    };

  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };

  recursiveUpdate =
    left: right:
    if isAttrs left && isAttrs right then
      left
      // mapAttrs (name: value: if hasAttr name left then recursiveUpdate left.${name} value else value) right
    else
      right;

  lib = rec {
    inherit
      concatLists
      concatMap
      concatStringsSep
      elem
      evalModules
      filter
      head
      mapAttrs
      mkOverride
      recursiveUpdate
      replaceStrings
      types
      ;
    mkOption = attributes: attributes // { _type = "option"; };
    mkEnableOption =
      what:
      mkOption {
        type = types.bool;
        default = false;
        description = "Whether to enable ${what}.";
      };
    mkIf = condition: content: {
      _type = "if";
      inherit condition content;
    };
    mkMerge = contents: {
      _type = "merge";
      inherit contents;
    };
    mkDefault = mkOverride 1000;
    mkForce = mkOverride 50;

    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: values: if condition then values else [ ];
    optionalString = condition: text: if condition then text else "";
    optionalAttrs = condition: set: if condition then set else { };
    last = values: elemAt values (length values - 1);
    imap0 = give: values: genList (index: give index (elemAt values index)) (length values);
    genAttrs = names: give: listToAttrs (map (name: { inherit name; value = give name; }) names);
    mapAttrsToList = give: set: map (name: give name set.${name}) (attrNames set);
    filterAttrs = keep: set: removeAttrs set (filter (name: !keep name set.${name}) (attrNames set));
    filterAttrsRecursive =
      keep: set:
      mapAttrs (_name: value: if isAttrs value then filterAttrsRecursive keep value else value) (
        filterAttrs keep set
      );

    hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
    hasInfix = infix: text: replaceStrings [ infix ] [ "" ] text != text;
    removePrefix = prefix: text: if hasPrefix prefix text then substring (stringLength prefix) (-1) text else text;
    toLower = replaceStrings upper lower;
    splitString =
      separator: text:
      filter isString (split (replaceStrings [ "." "+" "*" ] [ "[.]" "[+]" "[*]" ] separator) text);
    escapeShellArg =
      argument:
      if match "[A-Za-z0-9/._:=@%+-]+" "${argument}" != null then
        "${argument}"
      else
        "'${replaceStrings [ "'" ] [ "'\\''" ] "${argument}"}'";
    escapeShellArgs = arguments: concatStringsSep " " (map escapeShellArg arguments);

    cleanSourceWith = attributes: attributes;
    licenses = {
      mit = "MIT";
      asl20 = "Apache-2.0";
    };
    platforms = {
      linux = [ "x86_64-linux" ];
      darwin = [ "aarch64-darwin" ];
    };
  };
in
lib

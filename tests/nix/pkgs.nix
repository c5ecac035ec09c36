# Stands in for the packages that loft's modules use. What would be built into the store stands in `folder`, where a
# test puts it: a file is its path and its text.
{ lib, folder }:
let
  inherit (builtins)
    attrNames
    concatStringsSep
    filter
    isAttrs
    isBool
    isFloat
    isInt
    isList
    isString
    toJSON
    ;
  file = name: text: {
    outPath = "${folder}/${name}";
    inherit text;
  };

  # Strings of JSON are strings of TOML.
  value =
    given:
    if isString given || isInt given || isFloat given || isBool given then
      toJSON given
    else if isList given then
      "[${concatStringsSep ", " (map value given)}]"
    else
      throw "TOML cannot hold ${toJSON given}";
  table =
    path: set:
    let
      isTable = name: isAttrs set.${name};
      names = attrNames set;
      lines = map (name: "${toJSON name} = ${value set.${name}}\n") (filter (name: !isTable name) names);
      tables = map (name: table (path ++ [ (toJSON name) ]) set.${name}) (filter isTable names);
      heading = if path == [ ] then "" else "[${concatStringsSep "." path}]\n";
    in
    heading + concatStringsSep "" (lines ++ tables);

  # Everything that JSON can hold.
  isJson =
    given:
    given == null
    || isString given
    || isInt given
    || isFloat given
    || isBool given
    || (isList given && builtins.all isJson given)
    || (isAttrs given && builtins.all (name: isJson given.${name}) (attrNames given));
  pkgs = {
    formats.json = { }: {
      type = {
        description = "JSON value";
        check = isJson;
        merge =
          _path: values:
          if builtins.all isAttrs values then builtins.foldl' lib.recursiveUpdate { } values else builtins.head values;
      };
    };
    formats.toml = { }: {
      generate = name: set: file name (table [ ] set);
    };
    writeShellScript = name: text: file name "#!/bin/sh\n${text}";
    callPackage =
      path: overrides:
      let
        package = import path;
      in
      package (builtins.intersectAttrs (builtins.functionArgs package) (pkgs // overrides));

    inherit lib;
    installShellFiles = file "install-shell-files" "";
    stdenv = {
      buildPlatform.canExecute = _platform: true;
      hostPlatform = { };
    };
    # The package is a folder with bin/loft.
    rustPlatform.buildRustPackage = attributes: attributes // { outPath = "${folder}/loft"; };
  };
in
pkgs

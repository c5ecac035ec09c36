# Stands in for the options of NixOS, nix-darwin and Home Manager that loft's modules set.
{ lib, pkgs }:
let
  inherit (lib) mkOption types;
  # What a unit's setting may be.
  setting = types.either (types.either types.bool types.int) (
    types.either types.str (types.listOf types.str)
  );
  settings = types.attrsOf setting;
  # `launchd` has nested ones.
  property = types.either setting (types.attrsOf setting);
  option =
    type: default:
    mkOption { inherit type default; };
  checks = {
    assertions = option (types.listOf (types.attrsOf setting)) [ ];
    warnings = option (types.listOf types.str) [ ];
  };
  packages = option (types.listOf types.package) [ ];
  etc = option (types.attrsOf (types.attrsOf types.package)) { };
  nix.settings = option (types.attrsOf (types.either types.package setting)) { };
in
{
  nixos.options = checks // {
    environment = {
      inherit etc;
      systemPackages = packages;
    };
    inherit nix;
    systemd = {
      # Of a service: lists, texts, and its serviceConfig.
      services = option (types.attrsOf (types.attrsOf property)) { };
      timers = option (types.attrsOf (types.attrsOf property)) { };
    };
  };

  darwin.options = checks // {
    environment = {
      inherit etc;
      systemPackages = packages;
    };
    inherit nix;
    users = {
      users = option (types.attrsOf settings) { };
      groups = option (types.attrsOf settings) { };
      knownUsers = option (types.listOf types.str) [ ];
      knownGroups = option (types.listOf types.str) [ ];
    };
    # `command` and `serviceConfig`.
    launchd.daemons = option (types.attrsOf (types.attrsOf (types.either types.str (types.attrsOf property)))) { };
  };

  home.options = checks // {
    home.packages = packages;
    xdg = {
      cacheHome = option types.str "/home/user/.cache";
      configFile = etc;
    };
    systemd.user.services = option (types.attrsOf (types.attrsOf settings)) { };
  };
}

# `services.loft` for nix-darwin: a launchd daemon with a user of its own.
#
# launchd hands no secrets over, so that user must be able to read their files.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkIf mkOption types;
  cfg = config.services.loft;
  mistakes = import ./mistakes.nix { inherit lib cfg; };
  configFile = (pkgs.formats.toml { }).generate "loft.toml" (import ./settings.nix { inherit lib cfg; });
  loft = [
    "${cfg.package}/bin/loft"
    "--config"
    "${configFile}"
  ]
  ++ lib.optional cfg.debug "--debug";
  home = "/var/lib/loft";
in
{
  imports = [ ./options.nix ];

  options.services.loft = {
    uid = mkOption {
      type = types.int;
      default = 541;
      description = "Number of the user and group `_loft`.";
    };
    postBuildHook.enable = mkOption {
      type = types.bool;
      default = false;
      description = "Whether Nix tells the service of every build, through `nix.settings.post-build-hook`.";
    };
  };

  config = mkIf cfg.enable {
    assertions = mistakes.assertions ++ [
      (mistakes.ledgerBelow home ", the home of the user _loft")
    ];
    inherit (mistakes) warnings;

    environment.systemPackages = [ cfg.package ];
    environment.etc."loft/loft.toml".source = configFile;

    # A hook that fails fails the build, and this is no reason to.
    nix.settings = mkIf cfg.postBuildHook.enable {
      post-build-hook = pkgs.writeShellScript "loft-post-build-hook" ''
        ${lib.escapeShellArgs loft} hook || true
      '';
    };

    users.users._loft = {
      inherit (cfg) uid;
      gid = cfg.uid;
      inherit home;
      createHome = true;
      shell = "/usr/bin/false";
      description = "loft";
    };
    users.groups._loft.gid = cfg.uid;
    users.knownUsers = [ "_loft" ];
    users.knownGroups = [ "_loft" ];

    # As a command, not as ProgramArguments: nix-darwin has it wait for the store's volume, which is mounted after
    # daemons are started.
    launchd.daemons.loft.command = lib.escapeShellArgs (loft ++ [ "watch" ]);
    launchd.daemons.loft.serviceConfig = {
      UserName = "_loft";
      GroupName = "_loft";
      WorkingDirectory = home;
      RunAtLoad = true;
      # Started again where it failed, not where it was told to end.
      KeepAlive.SuccessfulExit = false;
      ThrottleInterval = 30;
      # What is in flight has 30 seconds to settle.
      ExitTimeOut = 60;
      ProcessType = "Background";
      # 077
      Umask = 63;
      StandardErrorPath = "${home}/loft.log";
    };
  };
}

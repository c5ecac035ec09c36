# `services.loft` for Home Manager on Linux: a service of the user's own systemd.
#
# It runs as the user, who can read the files of secrets; so there are no credentials to load. It has those
# restrictions that need no root to set up.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    mkDefault
    mkIf
    mkOption
    optional
    optionalString
    types
    ;
  cfg = config.services.loft;
  mistakes = import ./mistakes.nix { inherit lib cfg; };
  configFile = (pkgs.formats.toml { }).generate "loft.toml" (import ./settings.nix { inherit lib cfg; });
  hardening = import ./hardening.nix;
in
{
  imports = [ ./options.nix ];

  options.services.loft.environmentFile = mkOption {
    type = types.nullOr types.path;
    default = null;
    description = "File of environment variables for the service. It must not be in the Nix store.";
  };

  config = {
    services.loft.localCachePath = mkDefault "${config.xdg.cacheHome}/loft/cache.db";

    assertions = mkIf cfg.enable mistakes.assertions;
    warnings = mkIf cfg.enable mistakes.warnings;
    # For `loft -c ~/.config/loft/loft.toml status`.
    home.packages = mkIf cfg.enable [ cfg.package ];
    xdg.configFile = mkIf cfg.enable { "loft/loft.toml".source = configFile; };

    systemd.user.services.loft = mkIf cfg.enable {
      Unit.Description = "Push new Nix store paths to a binary cache (loft)";
      Install.WantedBy = [ "default.target" ];
      Service = {
        inherit (hardening)
          LockPersonality
          MemoryDenyWriteExecute
          NoNewPrivileges
          RestrictAddressFamilies
          RestrictNamespaces
          RestrictRealtime
          RestrictSUIDSGID
          SystemCallArchitectures
          SystemCallErrorNumber
          SystemCallFilter
          UMask
          ;
        Type = "notify";
        ExecStart = "${cfg.package}/bin/loft --config ${configFile}${optionalString cfg.debug " --debug"} watch";
        EnvironmentFile = optional (cfg.environmentFile != null) (toString cfg.environmentFile);
        Restart = "on-failure";
        RestartSec = 30;
        TimeoutStartSec = 300;
        TimeoutStopSec = 60;
        WatchdogSec = 120;
      };
    };
  };
}

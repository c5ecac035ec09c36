# `services.loft` for NixOS: a service without root, users or files of its own.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    mkIf
    mkOption
    optional
    optionalString
    types
    ;
  cfg = config.services.loft;
  mistakes = import ./mistakes.nix { inherit lib cfg; };
  configFile = (pkgs.formats.toml { }).generate "loft.toml" (import ./settings.nix { inherit lib cfg; });

  headerFiles = import ./header-files.nix cfg;

  loft = "${cfg.package}/bin/loft --config ${configFile}${optionalString cfg.debug " --debug"}";

  # systemd reads the files as root and hands copies to the service alone; loft takes each of these for the file of
  # the same purpose in loft.toml.
  credential = name: path: optional (path != null) "loft.${percent name}:${percent (toString path)}";
  # In units a percent sign begins a specifier.
  percent = lib.replaceStrings [ "%" ] [ "%%" ];
  credentials =
    credential "access-key" cfg.s3.accessKeyFile
    ++ credential "secret-key" cfg.s3.secretKeyFile
    ++ credential "extra-headers" headerFiles.lines
    ++ lib.concatLists (
      lib.mapAttrsToList (name: credential "extra-header.${name}") headerFiles.values
    )
    ++ credential "signing-key" cfg.signingKeyPath
    ++ lib.concatLists (
      lib.imap0 (index: credential "signing-key.${toString index}") cfg.signingKeyPaths
    );

  common = import ./hardening.nix // {
    # One name for both units is one user for both.
    User = "loft";
    DynamicUser = true;
    StateDirectory = "loft";
    StateDirectoryMode = "0700";
    LoadCredential = credentials;
    EnvironmentFile = optional (cfg.environmentFile != null) (percent (toString cfg.environmentFile));
  };

  prunesByTimer = cfg.pruning.enable && cfg.pruning.method == "timer";
  isTimeOfDay = lib.hasInfix ":" cfg.pruning.schedule;
in
{
  imports = [ ./options.nix ];

  options.services.loft = {
    environmentFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/run/secrets/loft.env";
      description = ''
        File of environment variables for the service, such as AWS_PROFILE or HTTPS_PROXY. It must not be in the Nix store.
      '';
    };
    pruning.method = mkOption {
      type = types.enum [
        "service"
        "timer"
      ];
      default = "service";
      description = "Whether the service prunes by itself, or a timer starts `loft-prune.service`.";
    };
    postBuildHook.enable = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether Nix tells the service of every build, through `nix.settings.post-build-hook`. Without it the service sees
        builds by itself, a few moments later.
      '';
    };
  };

  config = mkIf cfg.enable {
    assertions = mistakes.assertions ++ [
      (mistakes.ledgerBelow "/var/lib/loft" ": nothing else can be written by the service")
    ];
    warnings =
      mistakes.warnings
      ++ optional (cfg.s3.profile != null && cfg.environmentFile == null) ''
        services.loft.s3.profile is set, but the service has no home with a .aws folder. Name the files in AWS_CONFIG_FILE and
        AWS_SHARED_CREDENTIALS_FILE of services.loft.environmentFile; the service must be able to read them.
      '';

    # For `loft -c /etc/loft/loft.toml status`, by root.
    environment.systemPackages = [ cfg.package ];
    environment.etc."loft/loft.toml".source = configFile;

    # A hook that fails fails the build, and this is no reason to.
    nix.settings = mkIf cfg.postBuildHook.enable {
      post-build-hook = pkgs.writeShellScript "loft-post-build-hook" ''
        ${loft} hook || true
      '';
    };

    systemd.services.loft = {
      description = "Push new Nix store paths to a binary cache (loft)";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [
        "network-online.target"
        "nix-daemon.socket"
      ];
      serviceConfig = common // {
        Type = "notify";
        ExecStart = "${loft} watch";
        Restart = "on-failure";
        RestartSec = 30;
        TimeoutStartSec = 300;
        # What is in flight has 30 seconds to settle.
        TimeoutStopSec = 60;
        WatchdogSec = 120;
      };
    };

    systemd.services.loft-prune = mkIf prunesByTimer {
      description = "Remove what retention no longer covers from a binary cache (loft)";
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      serviceConfig = common // {
        Type = "oneshot";
        ExecStart = "${loft} prune";
      };
    };
    systemd.timers.loft-prune = mkIf prunesByTimer {
      description = "When to prune a binary cache (loft)";
      wantedBy = [ "timers.target" ];
      timerConfig =
        if isTimeOfDay then
          {
            OnCalendar = "*-*-* ${cfg.pruning.schedule}:00";
            Persistent = true;
            # Machines that share a bucket need not agree; two prunes at once only get in each other's way.
            RandomizedDelaySec = "30min";
          }
        else
          {
            OnActiveSec = "15min";
            OnUnitActiveSec = cfg.pruning.schedule;
            RandomizedDelaySec = "5min";
          };
    };
  };
}

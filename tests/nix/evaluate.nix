# Evaluates one of loft's modules with a configuration, and gives what the tests look at, fit for JSON.
{
  system,
  configuration,
  # Where generated files will stand.
  folder,
}:
let
  lib = import ./lib.nix;
  pkgs = import ./pkgs.nix { inherit lib folder; };
  loftModule =
    {
      nixos = ../../nix/module.nix;
      darwin = ../../nix/darwin.nix;
      home = ../../nix/home.nix;
    }
    .${system};
  evaluated = lib.evalModules {
    modules = [
      (import ./systems.nix { inherit lib pkgs; }).${system}
      loftModule
      configuration
    ];
    specialArgs = { inherit pkgs; };
  };
  inherit (evaluated) config options;

  # `{ "s3.bucket" = "string"; … }`
  describe =
    path: set:
    lib.concatLists (
      lib.mapAttrsToList (
        name: option:
        let
          here = if path == "" then name else "${path}.${name}";
        in
        if (option._type or "") == "option" then
          [
            {
              name = here;
              value = option.type.description;
            }
          ]
        else
          describe here option
      ) set
    );
in
{
  options = builtins.listToAttrs (describe "" options.services.loft);
  failed = map (one: one.message) (lib.filter (one: !one.assertion) config.assertions);
  inherit (config) warnings;
  toml =
    (config.environment.etc or config.xdg.configFile)."loft/loft.toml".source.text or null;
  settings = config.nix.settings or { };
  hook = config.nix.settings.post-build-hook.text or null;
  services = config.systemd.services or { };
  timers = config.systemd.timers or { };
  userServices = config.systemd.user.services or { };
  daemons = config.launchd.daemons or { };
  users = config.users or { };
}

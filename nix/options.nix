# The options of `services.loft` that every system has: NixOS, nix-darwin, Home Manager.
#
# Names and types are a promise to all who have them in their configuration; tests/nix holds a list of them.
{ lib, pkgs, ... }:
let
  inherit (lib) mkEnableOption mkOption types;

  optional =
    type: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit description;
    };
  optionalLike =
    example: type: description:
    optional type description // { inherit example; };
  switch =
    description:
    mkOption {
      type = types.bool;
      default = false;
      inherit description;
    };
  texts =
    example: description:
    mkOption {
      type = types.listOf types.str;
      default = [ ];
      inherit example description;
    };
  # A path of the machine as text, so that nothing is copied to the store.
  secret =
    description:
    optionalLike "/run/secrets/loft" types.path "${description} It must not be in the Nix store.";
in
{
  options.services.loft = {
    enable = mkEnableOption "loft, which pushes what becomes valid in the Nix store to a binary cache";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = "loft, as its flake builds it";
      description = "The loft to run.";
    };

    debug = switch "Whether the log tells every step; never a secret.";

    s3 = {
      bucket = mkOption {
        type = types.str;
        default = "";
        example = "nix-cache";
        description = "Name of the bucket.";
      };
      region = mkOption {
        type = types.str;
        default = "us-east-1";
        example = "garage";
        description = "Region of the bucket; Garage's own is often called garage.";
      };
      endpoint =
        optionalLike "http://garage.example.org:3900" types.str
          "URL of the server; null is AWS in the region.";
      accessKeyFile = secret "File with the access key.";
      secretKeyFile = secret "File with the secret key.";
      extraHeaders = mkOption {
        type = types.attrsOf types.str;
        default = { };
        example = {
          "CF-Access-Client-Id" = "xxx";
        };
        description = ''
          Headers for every request, for an authenticating proxy. Everybody on the machine can read them: secret
          ones belong into `extraHeadersFile`.
        '';
      };
      extraHeadersFile = mkOption {
        type = types.nullOr (types.either types.path (types.attrsOf types.path));
        default = null;
        example = {
          "CF-Access-Client-Secret" = "/run/secrets/cf-secret";
        };
        description = ''
          For each header the file that holds its value and nothing else; or one file with lines `Name: value` or
          `LOFT_EXTRA_HEADER_NAME=value`. For one name it wins over `extraHeaders`. None must be in the Nix store.
        '';
      };
      prefix = optional types.str "Beginning of every key, for a bucket that holds more than the cache.";
      addressingStyle = mkOption {
        type = types.enum [
          "auto"
          "path"
          "virtual"
        ];
        default = "auto";
        description = "How requests name the bucket; auto is path where an endpoint is set.";
      };
      caFile = optional types.path "PEM certificates to trust besides the system's.";
      profile = optional types.str "Profile of the shared AWS configuration that has the credentials.";
      storageClass = optional types.str "Storage class of new objects.";
    };

    localCachePath = mkOption {
      type = types.str;
      default = "/var/lib/loft/cache.db";
      description = "File in which loft remembers what the bucket has, its place and its queue.";
    };
    uploadThreads = mkOption {
      type = types.int;
      default = 12;
      description = "Paths worked on at once.";
    };
    scanOnStartup = switch "Whether to push once what the store had before the first start.";
    populateCacheOnStartup = switch "Whether to learn from a listing of the bucket at every start what it has.";
    compression = mkOption {
      type = types.enum [
        "zstd"
        "xz"
        "none"
      ];
      default = "zstd";
      description = "How NARs are compressed.";
    };
    compressionLevel = optional types.int "Level of the compression: zstd 1 to 22 (3), xz 0 to 9 (6).";
    signingKeyPath = secret "File with the secret key that signs what is pushed.";
    signingKeyName = optional types.str "Name to sign as, where it differs from the one in the key's file.";
    signingKeyPaths = mkOption {
      type = types.listOf types.path;
      default = [ ];
      description = "Files with more secret keys; each signs every path.";
    };
    skipSignedByKeys = texts [ "cache.nixos.org-1" ] ''
      Names of keys, or whole public keys: what they have signed is left to the caches that serve it.
    '';
    upstreams = texts [ "https://cache.nixos.org" ] "URLs of those caches, recorded in the bucket for checks.";
    exclude = texts [ "*-source" ] "Patterns over names: what matches is never pushed, nor what refers to it.";
    narListings = switch "Whether to write what is in each path beside it, for nix-index.";
    buildLogs = switch "Whether to push what builds printed, for `nix log`; readers of the cache can read it.";
    debugInfo = switch "Whether to write where debug information is, for dwarffs and nixseparatedebuginfod2.";
    statusPage = switch "Whether prunes write a page for browsers, index.html, into the bucket.";
    publicUrl = optional types.str "Where everybody may read the bucket; `loft use` hands it to readers.";
    store = optional types.str "The Nix store, where it is not the usual one.";
    priority = optional types.int "Priority of a new cache; lower is asked first, cache.nixos.org has 40.";
    memoryLimit = optional (types.either types.int types.str) ''
      Bytes that all NARs in flight may take together, such as "256MiB".
    '';
    metricsAddress = optionalLike "127.0.0.1:9100" types.str "Where to answer Prometheus.";

    pruning = {
      enable = switch "Whether to remove what retention no longer covers.";
      schedule = mkOption {
        type = types.str;
        default = "24h";
        example = "03:00";
        description = "An interval (90m, 24h, 7d) or a time of day.";
      };
      retentionDays = mkOption {
        type = types.int;
        default = 30;
        description = "What was pushed within so many days stays, with all that it refers to.";
      };
      maxSizeGb = optional types.int "Above so many times 1024³ bytes of NARs the oldest go.";
      targetPercentage = mkOption {
        type = types.int;
        default = 80;
        description = "Until so much of `maxSizeGb` is left.";
      };
    };

    extraConfig = mkOption {
      # TOML has no null; here it leaves a setting out, and settings.nix never writes one.
      type = types.attrsOf (pkgs.formats.json { }).type;
      default = { };
      example = {
        loft.some_new_setting = true;
      };
      description = "More of `loft.toml`; wins over the other options, and null leaves a setting out.";
    };
  };
}

# What can be told to be wrong before anything is built: assertions, and warnings about secrets.
{ lib, cfg }:
let
  inherit (lib)
    concatMap
    concatStringsSep
    filter
    hasPrefix
    mapAttrsToList
    optional
    ;
  matches = pattern: text: builtins.match pattern text != null;
  # Stops the evaluation unless `holds`.
  must = holds: message: {
    assertion = holds;
    message = "services.loft.${message}";
  };
  within = low: high: value: low <= value && value <= high;

  timeOfDay = "([01]?[0-9]|2[0-3]):[0-5][0-9]";
  # Not more digits than a number can have; more are too many anyway.
  interval = "([0-9]{1,9}(s|m|min|h|d|w) *)+";
  secondsOf = {
    s = 1;
    m = 60;
    min = 60;
    h = 3600;
    d = 24 * 3600;
    w = 7 * 24 * 3600;
  };
  # "1h30m" is 5400.
  seconds =
    text:
    let
      parts = filter builtins.isList (builtins.split "0*([0-9]+)(min|s|m|h|d|w)" text);
      part = groups: builtins.fromJSON (builtins.elemAt groups 0) * secondsOf.${builtins.elemAt groups 1};
    in
    builtins.foldl' (sum: groups: sum + part groups) 0 parts;
  isSchedule =
    text:
    matches timeOfDay text || (matches interval text && within 60 (366 * secondsOf.d) (seconds text));

  components = path: filter builtins.isString (builtins.split "/" path);

  headerFiles = import ./header-files.nix cfg;
  secretFiles = filter (file: file.path != null) (
    [
      {
        option = "s3.accessKeyFile";
        path = cfg.s3.accessKeyFile;
      }
      {
        option = "s3.secretKeyFile";
        path = cfg.s3.secretKeyFile;
      }
      {
        option = "s3.extraHeadersFile";
        path = headerFiles.lines;
      }
      {
        option = "signingKeyPath";
        path = cfg.signingKeyPath;
      }
      {
        option = "environmentFile";
        path = cfg.environmentFile or null;
      }
    ]
    ++ map (path: {
      option = "signingKeyPaths";
      inherit path;
    }) cfg.signingKeyPaths
    ++ mapAttrsToList (name: path: {
      option = "s3.extraHeadersFile.\"${name}\"";
      inherit path;
    }) headerFiles.values
  );
  outsideStore =
    file:
    must (!builtins.isPath file.path && !hasPrefix "${builtins.storeDir}/" (toString file.path)) ''
      ${file.option} (${toString file.path}) is, or would be copied, in the Nix store, where everybody can read it.
      Write the path of a file outside of it as text: "/run/secrets/NAME".
    '';

  # By the name, or because nobody types the like of the value.
  looksSecret =
    name: value:
    matches ".*(secret|token|passw|auth|cookie|api-?key).*" (lib.toLower name)
    || (matches "[A-Za-z0-9+/=_.-]{24,}" value && matches ".*[0-9].*" value && matches ".*[A-Za-z].*" value);
  # What stands for a value that is elsewhere.
  isPlaceholder = value: matches "x*|X*|changeme|placeholder|\\*+" value;
  secretHeaders = filter (name: name != null) (
    mapAttrsToList (
      name: value: if !isPlaceholder value && looksSecret name value then name else null
    ) cfg.s3.extraHeaders
  );
  inlineKeys = filter (key: (cfg.extraConfig.s3.${key} or null) != null) [
    "access_key"
    "secret_key"
    "extra_headers"
  ];
  headerPattern = "[A-Za-z0-9!#$%&'*+.^_`|~-]+";
  # Stops where a name of `headers` is none of HTTP's.
  mustNameHeaders =
    option: headers:
    let
      wrong = filter (name: !(matches headerPattern name)) (builtins.attrNames headers);
    in
    must (wrong == [ ]) ''
      ${option} has a name that is none of HTTP's: ${concatStringsSep ", " wrong}.
    '';
  # It may be a secret, and is not told.
  mustBeOneLine =
    name: value:
    must (!lib.hasInfix "\n" value && !lib.hasInfix "\r" value) ''
      s3.extraHeaders."${name}" has more than one line, which no value of a header can.
    '';
in
{
  # For systems where the service can write in one folder alone.
  ledgerBelow =
    folder: why:
    must
      (
        hasPrefix "${folder}/" cfg.localCachePath
        && filter (part: part == ".." || part == ".") (components cfg.localCachePath) == [ ]
        && lib.last (components cfg.localCachePath) != ""
      )
      ''
        localCachePath is "${cfg.localCachePath}", but must be a file below ${folder}${why}.
      '';

  assertions = [
    (must (cfg.s3.bucket != "") "s3.bucket is not set: name the bucket that is the cache.")
    (must (cfg.s3.endpoint == null || matches "https?://[^/@?#]+/?" cfg.s3.endpoint) ''
      s3.endpoint is "${toString cfg.s3.endpoint}", but must be http://HOST:PORT or https://HOST without a path.
      Leave it out for AWS.
    '')
    (must
      ((cfg.s3.accessKeyFile == null) == (cfg.s3.secretKeyFile == null) || (cfg.environmentFile or null) != null)
      "s3.accessKeyFile and s3.secretKeyFile go together: one of them is not set."
    )
    (must (cfg.signingKeyName == null || cfg.signingKeyPath != null) ''
      signingKeyName is "${toString cfg.signingKeyName}", but signingKeyPath is not set: there is no key to sign with.
    '')
    (must (isSchedule cfg.pruning.schedule) ''
      pruning.schedule is "${cfg.pruning.schedule}", but must be an interval from a minute to a year ("90m", "24h", "7d")
      or a time of day ("03:00").
    '')
    (must (within 1 36500 cfg.pruning.retentionDays) ''
      pruning.retentionDays is ${toString cfg.pruning.retentionDays}, but must be from 1 to 36500.
    '')
    (must (cfg.pruning.maxSizeGb == null || cfg.pruning.maxSizeGb >= 1) ''
      pruning.maxSizeGb is ${toString cfg.pruning.maxSizeGb}, but must be at least 1. Leave it out for no limit.
    '')
    (must (within 1 100 cfg.pruning.targetPercentage) ''
      pruning.targetPercentage is ${toString cfg.pruning.targetPercentage}, but must be from 1 to 100.
    '')
    (must (within 1 512 cfg.uploadThreads) ''
      uploadThreads is ${toString cfg.uploadThreads}, but must be from 1 to 512.
    '')
    (must
      (
        cfg.compressionLevel == null
        || (cfg.compression == "zstd" && within 1 22 cfg.compressionLevel)
        || (cfg.compression == "xz" && within 0 9 cfg.compressionLevel)
      )
      ''
        compressionLevel is ${toString cfg.compressionLevel}, but zstd has 1 to 22, xz has 0 to 9, and none has no levels.
      ''
    )
    (must (cfg.metricsAddress == null || matches ".+:[0-9]+" cfg.metricsAddress) ''
      metricsAddress is "${toString cfg.metricsAddress}", but must be an address and a port, such as "127.0.0.1:9100".
    '')
    (must (filter (key: lib.hasInfix "://" key) cfg.skipSignedByKeys == [ ]) ''
      skipSignedByKeys takes names of keys, such as "cache.nixos.org-1". URLs of caches belong into upstreams.
    '')
    (must (filter (url: !(lib.hasInfix "://" url)) cfg.upstreams == [ ]) ''
      upstreams takes URLs, such as "https://cache.nixos.org". Names of keys belong into skipSignedByKeys.
    '')
    (mustNameHeaders "s3.extraHeaders" cfg.s3.extraHeaders)
    (mustNameHeaders "s3.extraHeadersFile" headerFiles.values)
  ]
  ++ mapAttrsToList mustBeOneLine cfg.s3.extraHeaders
  ++ map outsideStore secretFiles;

  warnings =
    concatMap (name: [
      ''
        services.loft.s3.extraHeaders."${name}" looks like a secret, and everybody on this machine can read it in the Nix store.
        Put it into a file and name that in services.loft.s3.extraHeadersFile.
      ''
    ]) secretHeaders
    ++ optional (inlineKeys != [ ]) ''
      services.loft.extraConfig.s3 has ${concatStringsSep ", " inlineKeys}, which everybody on this machine can read in the Nix store.
      Use services.loft.s3.accessKeyFile, secretKeyFile and extraHeadersFile.
    '';
}

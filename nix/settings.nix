# What `loft.toml` says, from the options.
{ lib, cfg }:
let
  # A path that is written as text stays where it is; one of a Nix file that is no secret goes to the store.
  there = path: if path == null then null else toString path;
  copied = path: if builtins.isPath path then "${path}" else path;
  headerFiles = import ./header-files.nix cfg;
  unlessEmpty = value: if value == [ ] || value == { } then null else value;

  options = {
    s3 = {
      inherit (cfg.s3)
        bucket
        region
        endpoint
        prefix
        profile
        ;
      addressing_style = cfg.s3.addressingStyle;
      access_key_file = there cfg.s3.accessKeyFile;
      secret_key_file = there cfg.s3.secretKeyFile;
      ca_file = copied cfg.s3.caFile;
      storage_class = cfg.s3.storageClass;
      extra_headers_file = there headerFiles.lines;
      extra_header_files = unlessEmpty (lib.mapAttrs (_name: there) headerFiles.values);
      extra_headers = unlessEmpty cfg.s3.extraHeaders;
    };
    loft = {
      inherit (cfg)
        compression
        exclude
        priority
        store
        upstreams
        ;
      upload_threads = cfg.uploadThreads;
      scan_on_startup = cfg.scanOnStartup;
      populate_cache_on_startup = cfg.populateCacheOnStartup;
      local_cache_path = cfg.localCachePath;
      compression_level = cfg.compressionLevel;
      signing_key_path = there cfg.signingKeyPath;
      signing_key_name = cfg.signingKeyName;
      signing_key_paths = unlessEmpty (map there cfg.signingKeyPaths);
      skip_signed_by_keys = cfg.skipSignedByKeys;
      memory_limit = cfg.memoryLimit;
      metrics_address = cfg.metricsAddress;
      public_url = cfg.publicUrl;
      nar_listings = cfg.narListings;
      build_logs = cfg.buildLogs;
      debug_info = cfg.debugInfo;
      status_page = cfg.statusPage;
      # A timer prunes by itself.
      prune_enabled = cfg.pruning.enable && (cfg.pruning.method or "service") == "service";
      prune_schedule = cfg.pruning.schedule;
      prune_retention_days = cfg.pruning.retentionDays;
      prune_max_size_gb = cfg.pruning.maxSizeGb;
      prune_target_percentage = cfg.pruning.targetPercentage;
    };
  };
in
lib.filterAttrsRecursive (_name: value: value != null) (lib.recursiveUpdate options cfg.extraConfig)

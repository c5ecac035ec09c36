# Every option that the older loft's module had, as its users have them in their configuration.
{
  services.loft = {
    enable = true;
    debug = true;
    s3 = {
      bucket = "nix-cache";
      region = "us-east-1";
      endpoint = "http://172.16.1.50:31292";
      accessKeyFile = "/run/secrets/loft-access-key";
      secretKeyFile = "/run/secrets/loft-secret-key";
      extraHeaders = {
        "CF-Access-Client-Id" = "xxx";
        "CF-Access-Client-Secret" = "xxx";
      };
      # For the same names; one file with lines may stand here as well.
      extraHeadersFile = {
        "CF-Access-Client-Id" = "/run/secrets/cf-access-client-id";
        "CF-Access-Client-Secret" = "/run/secrets/cf-access-client-secret";
      };
    };
    localCachePath = "/var/lib/loft/cache.db";
    uploadThreads = 12;
    scanOnStartup = true;
    populateCacheOnStartup = false;
    compression = "zstd";
    signingKeyPath = "/run/secrets/nix-signing-key";
    signingKeyName = "nix-cache";
    skipSignedByKeys = [
      "cache.nixos.org-1"
      "nix-community.cachix.org-1"
    ];
    pruning = {
      enable = true;
      schedule = "00:00";
      retentionDays = 30;
      maxSizeGb = 1000;
      targetPercentage = 80;
    };
    extraConfig = {
      loft.some_new_feature_flag = true;
    };
  };
}

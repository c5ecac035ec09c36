# Two machines: one with Garage behind an nginx that demands a header, and loft; one that substitutes from it.
{ pkgs, module }:
let
  header = {
    name = "X-Gate";
    value = "let-me-through";
  };
  # A key for this test alone. Secrets are written at start, so that none is in the store.
  setUp = pkgs.writeShellScript "set-up-the-cache" ''
    set -eu
    garage() { ${pkgs.garage_2}/bin/garage -c /etc/garage.toml "$@"; }
    until garage status; do sleep 1; done
    garage layout assign -z here -c 1G "$(garage node id -q | cut -d@ -f1)"
    garage layout apply --version 1
    garage bucket create nix-cache
    garage key create loft >/dev/null
    garage bucket allow --read --write --owner nix-cache --key loft
    garage bucket website --allow nix-cache
    umask 077
    mkdir -p /run/secrets
    cd /run/secrets
    garage key info loft --show-secret | awk '/Key ID/ { print $NF }' >access-key
    garage key info loft --show-secret | awk '/Secret key/ { print $NF }' >secret-key
    echo '${header.name}: ${header.value}' >headers
    loft key generate vm-test-1 --out signing-key
  '';
in
pkgs.testers.runNixOSTest {
  name = "loft";

  nodes.builder =
    { config, ... }:
    {
      imports = [ module ];
      virtualisation.diskSize = 4096;
      networking.firewall.allowedTCPPorts = [ 3902 ];

      services.garage = {
        enable = true;
        package = pkgs.garage_2;
        settings = {
          replication_factor = 1;
          rpc_bind_addr = "127.0.0.1:3901";
          rpc_public_addr = "127.0.0.1:3901";
          rpc_secret = "5c1915fa04d0b6739675c61bf5907eb0fe3d9c69850c83820f51b4d25d13868c";
          s3_api = {
            s3_region = "garage";
            api_bind_addr = "127.0.0.1:3900";
            root_domain = ".s3.garage";
          };
          s3_web = {
            bind_addr = "0.0.0.0:3902";
            root_domain = ".web.garage";
          };
        };
      };

      # It signs nothing and sees every request; the header is not for Garage.
      services.nginx = {
        enable = true;
        clientMaxBodySize = "0";
        virtualHosts.gate = {
          listen = [
            {
              addr = "127.0.0.1";
              port = 8080;
            }
          ];
          locations."/" = {
            proxyPass = "http://127.0.0.1:3900";
            extraConfig = ''
              if ($http_x_gate != "${header.value}") { return 403; }
              proxy_set_header ${header.name} "";
              proxy_set_header Host $http_host;
              proxy_request_buffering off;
            '';
          };
        };
      };

      systemd.services.set-up-the-cache = {
        after = [ "garage.service" ];
        requires = [ "garage.service" ];
        path = [
          config.services.loft.package
          pkgs.gawk
        ];
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = setUp;
        };
      };

      services.loft = {
        enable = true;
        s3 = {
          bucket = "nix-cache";
          region = "garage";
          endpoint = "http://127.0.0.1:8080";
          accessKeyFile = "/run/secrets/access-key";
          secretKeyFile = "/run/secrets/secret-key";
          # The file's value wins.
          extraHeaders.${header.name} = "xxx";
          extraHeadersFile = "/run/secrets/headers";
        };
        signingKeyPath = "/run/secrets/signing-key";
        postBuildHook.enable = true;
        pruning = {
          enable = true;
          method = "timer";
          schedule = "00:00";
        };
      };
      systemd.services.loft = {
        after = [ "set-up-the-cache.service" ];
        requires = [ "set-up-the-cache.service" ];
      };
    };

  nodes.client = {
    nix.settings = {
      experimental-features = [ "nix-command" ];
      substituters = pkgs.lib.mkForce [ ];
    };
  };

  testScript = ''
    import json

    start_all()
    builder.wait_for_unit("loft.service")
    client.wait_for_unit("multi-user.target")

    with subtest("no root, no secrets in the arguments"):
        pid = builder.succeed("systemctl show -P MainPID loft.service").strip()
        assert builder.succeed(f"stat -c %u /proc/{pid}").strip() != "0"
        secret = builder.succeed("cat /run/secrets/secret-key").strip()
        assert secret not in builder.succeed(f"tr '\\0' '\\n' </proc/{pid}/cmdline; journalctl -u loft.service")

    def in_cache(path):
        name = path.split("/")[-1][:32]
        return f"curl -sf -H 'Host: nix-cache.web.garage' http://127.0.0.1:3902/{name}.narinfo"

    with subtest("what is added is pushed, through the gate that demands the header"):
        builder.fail("curl -sf http://127.0.0.1:8080/nix-cache")
        builder.succeed("echo added >/tmp/added")
        added = builder.succeed("nix-store --add /tmp/added").strip()
        builder.wait_until_succeeds(in_cache(added), timeout=60)

    with subtest("what is built is handed over by the hook"):
        expression = 'derivation { name = "built"; system = builtins.currentSystem; ' \
            'builder = "/bin/sh"; args = [ "-c" "echo built >$out" ]; }'
        built = builder.succeed(f"nix-build --no-out-link -E '{expression}'").strip()
        builder.wait_until_succeeds(in_cache(built), timeout=60)

    with subtest("another machine substitutes it, signatures required"):
        key = builder.succeed("loft key show /run/secrets/signing-key").strip()
        address = builder.succeed("ip -4 -j addr show eth1").strip()
        address = json.loads(address)[0]["addr_info"][0]["local"]
        client.succeed(f"echo '{address} nix-cache.web.garage' >>/tmp/hosts; cat /etc/hosts >>/tmp/hosts")
        client.succeed("mount --bind /tmp/hosts /etc/hosts")
        fetch = f"nix copy --from http://nix-cache.web.garage:3902 --option trusted-public-keys '{key}'"
        client.succeed(f"{fetch} {added} {built}")
        assert "added" in client.succeed(f"cat {added}")

    with subtest("the timer's unit prunes, and nothing that is young goes"):
        builder.succeed("systemctl list-timers --all | grep loft-prune")
        builder.succeed("systemctl start loft-prune.service")
        builder.succeed(in_cache(added))

    with subtest("what became valid while it was away is pushed, and its ledger is its own"):
        builder.succeed("systemctl stop loft.service")
        builder.succeed("echo away >/tmp/away")
        away = builder.succeed("nix-store --add /tmp/away").strip()
        builder.succeed("systemctl start loft.service")
        builder.wait_until_succeeds(in_cache(away), timeout=60)
        builder.succeed("test -L /var/lib/loft && test $(stat -c %a /var/lib/private/loft) = 700")
        builder.succeed("loft -c /etc/loft/loft.toml status --local")
  '';
}

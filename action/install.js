// Gets loft from the archives of a release.
'use strict';

const { execFileSync } = require('node:child_process');
const { createHash } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { input, sleep } = require('./runner.js');

/// The name that releases have for this machine.
function system() {
  const machine = { x64: 'x86_64', arm64: 'aarch64' }[process.arch];
  const name = { linux: 'linux', darwin: 'macos' }[process.platform];
  if (!machine || !name) throw new Error(`there is no release of loft for ${process.platform} on ${process.arch}`);
  return `${machine}-${name}`;
}

/// The version of the action is that of the program, also where a commit was pinned: both come from one checkout.
function version() {
  const asked = input('version').replace(/^v/, '');
  if (/^\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?$/.test(asked)) return asked;
  if (asked) throw new Error(`version: ${asked} is no version such as 1.0.0`);
  const manifest = fs.readFileSync(path.join(__dirname, '..', 'Cargo.toml'), 'utf8');
  const own = /^version = "(.*)"$/m.exec(manifest)[1];
  if (own.endsWith('-dev')) throw new Error(`this action is of ${own}, which is no release: use a release's tag, or give version or program`);
  return own;
}

async function download(url) {
  for (let attempt = 1; ; attempt++) {
    let why, lasting = false;
    try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(120_000) });
      if (answer.ok) return Buffer.from(await answer.arrayBuffer());
      why = `status ${answer.status}`;
      lasting = answer.status < 500 && answer.status !== 429;
    } catch (error) {
      why = error.cause?.message ?? error.message;
    }
    if (lasting || attempt === 4) throw new Error(`cannot download ${url}: ${why}`);
    await sleep(1000 * 2 ** attempt);
  }
}

/// Puts loft below `folder` and gives the program's path.
async function install(folder) {
  const name = `loft-${version()}-${system()}`;
  const base = `${input('releases').replace(/\/+$/, '')}/v${version()}`;
  const sums = (await download(`${base}/SHA256SUMS`)).toString();
  const line = sums.split('\n').find((line) => line.slice(64) === `  ${name}.tar.gz`);
  if (!line) throw new Error(`${base}/SHA256SUMS does not name ${name}.tar.gz`);
  const archive = await download(`${base}/${name}.tar.gz`);
  const sum = createHash('sha256').update(archive).digest('hex');
  if (sum !== line.slice(0, 64)) throw new Error(`${name}.tar.gz is not what the release holds: its SHA-256 is ${sum}, not ${line.slice(0, 64)}`);
  const file = path.join(folder, `${name}.tar.gz`);
  fs.writeFileSync(file, archive);
  execFileSync('tar', ['-xzf', file, '-C', folder]);
  fs.rmSync(file);
  return path.join(folder, name, 'bin', 'loft');
}

module.exports = { install, version, system };

// Between the steps: keeps `loft run` going, and its token fresh.
//
//   node background.js FOLDER PROGRAM OPTIONS…
//
// In FOLDER it makes `started` when loft has looked what is valid already, and `status`, with loft's exit status, at the
// end. The end comes when there is a file `stop`.
'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const oidc = require('./oidc.js');
const { sleep } = require('./runner.js');

const [folder, program, ...options] = process.argv.slice(2);
const file = (name) => path.join(folder, name);
const { AWS_WEB_IDENTITY_TOKEN_FILE: token, LOFT_ACTION_AUDIENCE: audience, ...inherited } = process.env;
const env = { ...inherited, ...(token && { AWS_WEB_IDENTITY_TOKEN_FILE: token }) };

// The command lasts as long as its standard input is open: also when this process is killed, it ends and the rest is pushed.
const wait = ['sh', '-c', ': >"$1" && cat', 'sh', file('started')];
const loft = spawn(program, ['run', ...options, '--', ...wait], { env, stdio: ['pipe', 'inherit', 'inherit'] });
let over = false;
const end = (status) => {
  if (over) return;
  over = true;
  // Whoever sees the file sees all of it.
  fs.writeFileSync(file('status.new'), String(status));
  fs.renameSync(file('status.new'), file('status'));
  process.exitCode = status;
};
loft.on('error', (error) => { console.log(`error: cannot start ${program}: ${error.message}`); end(126); });
loft.on('exit', (code, signal) => end(code ?? `killed by ${signal}`));
loft.stdin.on('error', () => {});

// A token of GitHub's is good for minutes, credentials made of it for an hour, and a job may last longer: whenever loft
// needs new ones, there is a token that is still good. And the rest is pushed with a fresh one.
async function renew() {
  if (!audience) return;
  try {
    await oidc.renew(token, audience);
  } catch (error) {
    console.log(`warning: ${error.message}`);
  }
}

(async () => {
  let renewed = Date.now();
  while (!over && !fs.existsSync(file('stop'))) {
    await sleep(100);
    if (Date.now() - renewed > 3 * 60_000) {
      await renew();
      renewed = Date.now();
    }
  }
  await renew();
  loft.stdin.end();
})();

// Between the steps: keeps `loft run` going, and its token fresh.
//
//   node background.js FOLDER PROGRAM OPTIONS…
//
// In FOLDER it makes `started` when loft has looked what is valid already, and `status`, with loft's exit status, at the
// end. The end comes when somebody connects to `socket`, which stays open for as long as this process lives: a number of a
// process would not tell, since in a container the dead may never be collected.
'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const oidc = require('./oidc.js');

const [folder, program, ...options] = process.argv.slice(2);
const { AWS_WEB_IDENTITY_TOKEN_FILE: token, LOFT_ACTION_AUDIENCE: audience } = process.env;

// A token of GitHub's is good for minutes, credentials made of it for an hour, and a job may last longer: whenever loft
// needs new ones, there is a token that is still good.
async function renew() {
  if (!audience) return;
  try {
    await oidc.renew(token, audience);
  } catch (error) {
    console.log(`warning: ${error.message}`);
  }
}
setInterval(renew, 3 * 60_000);

const checkout = process.cwd();
// A socket's name may not be longer than some hundred bytes, and folders of runners are deep.
process.chdir(folder);
net.createServer(async (connection) => {
  connection.on('error', () => {});
  await renew();
  loft.stdin.end();
}).listen('socket', start);

let loft;
function start() {
  // The command lasts as long as its standard input is open: also when this process is killed, it ends and the rest is pushed.
  const wait = ['sh', '-c', ': >"$1" && cat', 'sh', path.join(folder, 'started')];
  loft = spawn(program, ['run', ...options, '--', ...wait], { cwd: checkout, stdio: ['pipe', 'inherit', 'inherit'] });
  loft.stdin.on('error', () => {});
  loft.on('error', (error) => {
    console.log(`error: cannot start ${program}: ${error.message}`);
    end('it could not be started');
  });
  loft.on('exit', (code, signal) => end(code ?? `it was ended by ${signal}`));
}

function end(status) {
  fs.writeFileSync('status', String(status));
  process.exit();
}

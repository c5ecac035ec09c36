// Starts to push, and lets the job go on.
//
// How it knows what is new: `loft run -- CMD` pushes all that becomes valid while CMD runs, and here CMD is one that waits
// for the end of the job. So pushing goes on while the job builds, little is left for the post step, and it gets an
// exit status that tells whether everything landed. (`loft watch` would serve, but tries for ever what fails, keeps its
// place for the next start, and gets in the way of a service on a machine of one's own; comparing lists of the store before
// and after would push nothing until the end, and would miss what was collected as garbage in between.)
//
// Three processes outlive this step: background.js, loft, and the shell that waits.
'use strict';

const { spawn, execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { install } = require('./install.js');
const oidc = require('./oidc.js');
const { input, append, save, command, mask, step, sleep } = require('./runner.js');

/// Whether a stranger wrote what the job builds. Nothing of theirs is signed, also where the job has secrets
/// (pull_request_target).
function ofFork() {
  const file = process.env.GITHUB_EVENT_PATH;
  if (!file || !fs.existsSync(file)) return false;
  const { pull_request: request, repository } = JSON.parse(fs.readFileSync(file, 'utf8'));
  // A fork that was deleted meanwhile is null.
  return Boolean(request) && request.head?.repo?.full_name !== repository?.full_name;
}

/// What loft shall see: the environment of the job, but of the inputs only what it takes.
async function environment(folder) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('INPUT_')));
  const [access, secret, session, role] = ['access-key', 'secret-key', 'session-token', 'role-to-assume'].map(input);
  if (role && (access || secret)) throw new Error('role-to-assume and access-key: give one of them');
  if (Boolean(access) !== Boolean(secret)) {
    throw new Error(`${access ? 'secret' : 'access'}-key is empty: is the secret it comes from there?`);
  }
  if (input('region')) env.AWS_REGION = input('region');
  if (access || role) {
    // Whatever else the job has would win over a role, and a session belongs to its own keys.
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'AWS_PROFILE']) delete env[name];
  }
  if (access) {
    env.AWS_ACCESS_KEY_ID = access;
    env.AWS_SECRET_ACCESS_KEY = secret;
    if (session) env.AWS_SESSION_TOKEN = session;
  }
  if (role) {
    // A machine of one's own may have a profile, and that would win as well.
    env.AWS_CONFIG_FILE = env.AWS_SHARED_CREDENTIALS_FILE = '/dev/null';
    env.AWS_ROLE_ARN = role;
    env.AWS_WEB_IDENTITY_TOKEN_FILE = path.join(folder, 'token');
    mask(await oidc.renew(env.AWS_WEB_IDENTITY_TOKEN_FILE, input('audience')));
    // For background.js, which renews it.
    env.LOFT_ACTION_AUDIENCE = input('audience');
  }
  return env;
}

function options(folder) {
  const options = [];
  for (const [name, option] of [['config', '--config'], ['cache', '--to'], ['store', '--store']]) {
    if (input(name)) options.push(option, input(name));
  }
  const key = input('signing-key');
  if (key) {
    const file = path.join(folder, 'signing-key');
    fs.writeFileSync(file, `${key}\n`, { mode: 0o600 });
    options.push('--signing-key', file);
  }
  return options;
}

step(async () => {
  for (const name of ['secret-key', 'session-token', 'signing-key']) mask(input(name));
  // The key without its name is as secret.
  mask(input('signing-key').replace(/^[^:]*:/, ''));

  // Of this user alone: secrets will stand in it.
  const folder = fs.mkdtempSync(path.join(process.env.RUNNER_TEMP || os.tmpdir(), 'loft-'));
  save('folder', folder);

  const program = input('program') ? path.resolve(input('program')) : await install(folder);
  append('GITHUB_PATH', path.dirname(program));
  console.log(execFileSync(program, ['--version'], { encoding: 'utf8' }).trim());

  if (ofFork()) {
    command('notice', 'This pull request comes from a fork: nothing of it is pushed');
    return;
  }

  const env = await environment(folder);
  const log = fs.openSync(path.join(folder, 'log'), 'a', 0o600);
  const background = spawn(process.execPath, ['--no-warnings', path.join(__dirname, 'background.js'), folder, program, ...options(folder)], {
    env, detached: true, stdio: ['ignore', log, log],
  });
  // Not before loft has looked what is valid already: what the next step builds is new.
  const over = new Promise((resolve) => background.on('error', resolve).on('exit', resolve));
  let ended = false;
  over.then(() => { ended = true; });
  while (!ended && !fs.existsSync(path.join(folder, 'started'))) await sleep(50);
  if (ended) {
    process.stdout.write(fs.readFileSync(path.join(folder, 'log'), 'utf8'));
    throw new Error('loft did not start to push; what it said stands above');
  }
  save('pushing', 'true');
  background.unref();
  console.log('Everything that becomes valid in the Nix store from now on is pushed');
});

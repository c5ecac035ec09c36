// The action as a runner runs it: `LOFT_TEST_PROGRAM=target/debug/loft node --test action/action.test.js`. Needs Nix's
// `nix-store` for stores to push from; ./test --full runs it.
'use strict';

const assert = require('node:assert/strict');
const { spawn, execFileSync } = require('node:child_process');
const { createHash } = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { after, test } = require('node:test');
const { sleep } = require('./runner.js');
const { system, version } = require('./install.js');

const loft = process.env.LOFT_TEST_PROGRAM;
if (!loft) throw new Error('LOFT_TEST_PROGRAM names no loft to test with');
const root = fs.mkdtempSync(path.join(os.tmpdir(), 'loft-action-'));
after(() => {
  // Nix makes what is in a store read-only.
  execFileSync('chmod', ['-R', 'u+w', root]);
  fs.rmSync(root, { recursive: true });
});

/// Runs a program to its end, beside this process: tests are servers, too.
function run(program, args, options) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { output += data; });
    child.on('error', reject).on('close', (code) => resolve({ code, output }));
  });
}

async function until(what, condition) {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 300) throw new Error(`waited for ${what} in vain`);
    await sleep(100);
  }
}

/// One job on a runner: a checkout, a store, a cache.
class Job {
  constructor(inputs = {}, env = {}) {
    this.home = fs.mkdtempSync(path.join(root, 'job-'));
    for (const name of ['temp', 'checkout']) fs.mkdirSync(this.at(name));
    this.cache = this.at('cache');
    this.store = `local?root=${this.at('store')}`;
    this.inputs = {
      // As in action.yml.
      audience: 'sts.amazonaws.com', 'allow-failure': 'false',
      program: loft, cache: `file://${this.cache}`, store: this.store, ...inputs,
    };
    for (const name of ['state', 'path']) fs.writeFileSync(this.at(name), '');
    this.env = {
      PATH: process.env.PATH, HOME: this.home, RUNNER_TEMP: this.at('temp'),
      GITHUB_STATE: this.at('state'), GITHUB_PATH: this.at('path'), ...env,
    };
  }

  at(name) {
    return path.join(this.home, name);
  }

  /// Lines NAME=VALUE that main kept for post.
  state() {
    return Object.fromEntries(fs.readFileSync(this.at('state'), 'utf8').split('\n').filter(Boolean)
      .map((line) => line.split(/=(.*)/s).slice(0, 2)));
  }

  step(script) {
    const inputs = Object.entries(this.inputs).map(([name, value]) => [`INPUT_${name.toUpperCase()}`, value]);
    const states = Object.entries(this.state()).map(([name, value]) => [`STATE_${name}`, value]);
    const env = { ...this.env, ...Object.fromEntries([...inputs, ...states]) };
    return run(process.execPath, [path.join(__dirname, script)], { env, cwd: this.at('checkout') });
  }

  nix(...args) {
    return execFileSync('nix-store', args, { env: { ...this.env, NIX_REMOTE: this.store }, encoding: 'utf8' }).trim();
  }

  /// Makes a path valid, as a build does.
  build(name) {
    fs.writeFileSync(this.at(name), `This is ${name}.`);
    return this.nix('--add', this.at(name));
  }

  narinfo(storePath) {
    return path.join(this.cache, `${path.basename(storePath).slice(0, 32)}.narinfo`);
  }

  narinfos() {
    if (!fs.existsSync(this.cache)) return [];
    return fs.readdirSync(this.cache).filter((name) => name.endsWith('.narinfo')).sort();
  }

  nothingIsLeft() {
    assert.deepEqual(fs.readdirSync(this.at('temp')), []);
  }
}

/// What people see of a log: a runner takes commands that mask out of it.
function shown(output) {
  return output.split('\n').filter((line) => !line.startsWith('::add-mask::')).join('\n');
}

/// A program in the place of loft. It says what it was given, starts its command, and ends with `status`.
function standIn(job, status = 0, more = '', start = '"$@"') {
  const file = job.at('stand-in');
  fs.writeFileSync(file, `#!/bin/sh
if [ "$1" = --version ]; then echo loft 0.0.0; exit; fi
printf '%s\\n' "$@" >'${job.at('arguments')}'
env >'${job.at('environment')}'
while [ "$1" != -- ]; do shift; done; shift
${start}
${more}
echo the end
exit ${status}
`, { mode: 0o755 });
  job.inputs.program = file;
}

test('what becomes valid is pushed while the job runs and at its end, signed', async () => {
  execFileSync(loft, ['key', 'generate', 'ci-1', '--out', path.join(root, 'key')], { stdio: 'pipe' });
  const key = fs.readFileSync(path.join(root, 'key'), 'utf8').trim();
  const job = new Job({ 'signing-key': `${key}\n` });
  job.nix('--init');
  const old = job.build('old');
  const main = await job.step('main.js');
  assert.equal(main.code, 0, main.output);
  const folder = job.state().folder;
  assert.equal(fs.statSync(folder).mode & 0o777, 0o700);
  assert.equal(fs.statSync(path.join(folder, 'signing-key')).mode & 0o777, 0o600);
  assert.equal(fs.readFileSync(job.at('path'), 'utf8'), `${path.dirname(loft)}\n`);

  const first = job.build('first');
  await until('a path to land while the job runs', () => fs.existsSync(job.narinfo(first)));
  const last = job.build('last');
  // The job fails here, say: a runner runs the post step all the same.
  const post = await job.step('post.js');
  assert.equal(post.code, 0, post.output);
  assert.match(post.output, /Pushed 2 paths /);
  assert.deepEqual(job.narinfos(), [first, last].map((storePath) => path.basename(job.narinfo(storePath))).sort());
  assert.match(fs.readFileSync(job.narinfo(last), 'utf8'), /^Sig: ci-1:/m);
  assert.ok(!fs.existsSync(job.narinfo(old)));
  const said = shown(main.output + post.output);
  assert.ok(!said.includes(key) && !said.includes(key.split(':')[1]), said);
  assert.ok(main.output.includes(`::add-mask::${key.split(':')[1]}\n`));
  job.nothingIsLeft();
});

test('a job that builds nothing new is fine', async () => {
  const job = new Job();
  job.nix('--init');
  assert.equal((await job.step('main.js')).code, 0);
  const post = await job.step('post.js');
  assert.equal(post.code, 0, post.output);
  assert.match(post.output, /Nothing to push/);
});

test('what does not land fails the job, or warns where that is allowed', async () => {
  for (const [allowed, code, told] of [['false', 1, /^::error::loft: pushing stopped/m], ['true', 0, /^::warning::loft: /m]]) {
    const job = new Job({ 'allow-failure': allowed });
    job.nix('--init');
    fs.writeFileSync(job.cache, 'a file, not a folder');
    const main = await job.step('main.js');
    assert.equal(main.code, 0, main.output);
    job.build('first');
    const post = await job.step('post.js');
    assert.equal(post.code, code, post.output);
    assert.match(post.output, told);
    assert.match(post.output, /did not land/);
    job.nothingIsLeft();
  }
});

test('a mistake is told before the job builds', async () => {
  const mistakes = [
    [{ cache: '' }, /error: [^]*::error::loft did not start/],
    [{ cache: 's3://', }, /error: [^]*::error::loft did not start/],
    [{ 'access-key': 'AK' }, /::error::secret-key is empty/],
    [{ 'secret-key': 'SK' }, /::error::access-key is empty/],
    [{ 'access-key': 'AK', 'secret-key': 'SK', 'role-to-assume': 'arn' }, /::error::role-to-assume and access-key/],
    [{ 'role-to-assume': 'arn' }, /::error::role-to-assume needs .* "permissions: \{ id-token: write \}"/],
    [{ program: '/no/such/loft' }, /::error::.*ENOENT/],
    [{ store: 'local?root=/no/such/store' }, /::error::loft did not start/],
  ];
  for (const [inputs, expected] of mistakes) {
    const job = new Job(inputs);
    job.nix('--init');
    const main = await job.step('main.js');
    assert.equal(main.code, 1, main.output);
    assert.match(main.output, expected);
    assert.ok(!shown(main.output).includes('SK'), main.output);
    // The post step has nothing to add, and takes away what is there.
    const post = await job.step('post.js');
    assert.deepEqual([post.code, post.output], [0, '']);
    job.nothingIsLeft();
  }
});

test('nothing of a fork is pushed', async () => {
  const repository = { full_name: 'we/ours' };
  const event = (repo) => JSON.stringify({ repository, pull_request: { head: { repo } } });
  for (const [payload, pushes] of [
    [event({ full_name: 'them/ours' }), false],
    [event(null), false],
    [event(repository), true],
    [JSON.stringify({ repository }), true],
  ]) {
    const job = new Job();
    fs.writeFileSync(job.at('event'), payload);
    job.env.GITHUB_EVENT_PATH = job.at('event');
    job.nix('--init');
    const main = await job.step('main.js');
    assert.equal(main.code, 0, main.output);
    assert.equal(main.output.includes('::notice::'), !pushes, main.output);
    job.build('first');
    const post = await job.step('post.js');
    assert.equal(post.code, 0, post.output);
    assert.equal(job.narinfos().length, pushes ? 1 : 0);
    job.nothingIsLeft();
  }
});

test('keys reach loft by its environment, and nothing else of the inputs does', async () => {
  const job = new Job(
    { 'access-key': 'THE-ACCESS', 'secret-key': 'THE-SECRET', 'signing-key': 'ci-1:THE-KEY', region: 'garage', config: 'ci.toml' },
    { AWS_SESSION_TOKEN: 'of other keys', AWS_PROFILE: 'other' },
  );
  standIn(job);
  assert.equal((await job.step('main.js')).code, 0);
  const post = await job.step('post.js');
  assert.deepEqual([post.code, post.output], [0, 'the end\n']);
  const environment = fs.readFileSync(job.at('environment'), 'utf8');
  for (const line of ['AWS_ACCESS_KEY_ID=THE-ACCESS', 'AWS_SECRET_ACCESS_KEY=THE-SECRET', 'AWS_REGION=garage']) {
    assert.ok(environment.includes(`${line}\n`), environment);
  }
  assert.doesNotMatch(environment, /INPUT_|THE-KEY|AWS_SESSION_TOKEN|AWS_PROFILE/);
  const given = fs.readFileSync(job.at('arguments'), 'utf8').split('\n');
  const key = path.join(job.state().folder, 'signing-key');
  assert.deepEqual(given.slice(0, 9), ['run', '--config', 'ci.toml', '--to', `file://${job.cache}`, '--store', job.store, '--signing-key', key]);
  assert.ok(!given.join(' ').includes('THE-'));
});

test('with a role, loft finds a token that was made for it, and a fresh one at the end', async () => {
  const asked = [];
  const server = http.createServer((request, response) => {
    asked.push([request.url, request.headers.authorization]);
    response.end(JSON.stringify({ value: `TOKEN-${asked.length}` }));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const job = new Job({ 'role-to-assume': 'arn:aws:iam::1:role/ci', region: 'eu-north-1' }, {
    ACTIONS_ID_TOKEN_REQUEST_URL: `http://127.0.0.1:${server.address().port}/token?api-version=2`,
    ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'BEARER', AWS_ACCESS_KEY_ID: 'of another', AWS_SECRET_ACCESS_KEY: 'of another',
  });
  const file = '"$AWS_WEB_IDENTITY_TOKEN_FILE"';
  standIn(job, 0, `cat ${file} >'${job.at('at the end')}'; ls -l ${file} | cut -c 1-10 >'${job.at('mode')}'`);
  const main = await job.step('main.js');
  assert.equal(main.code, 0, main.output);
  assert.ok(main.output.includes('::add-mask::TOKEN-1\n') && !shown(main.output).includes('TOKEN-'), main.output);
  const post = await job.step('post.js');
  server.close();
  assert.deepEqual([post.code, post.output], [0, 'the end\n']);
  assert.deepEqual(asked, Array(2).fill(['/token?api-version=2&audience=sts.amazonaws.com', 'Bearer BEARER']));
  const environment = fs.readFileSync(job.at('environment'), 'utf8');
  assert.match(environment, /^AWS_ROLE_ARN=arn:aws:iam::1:role\/ci$/m);
  assert.doesNotMatch(environment, /AWS_ACCESS_KEY_ID|AWS_SECRET_ACCESS_KEY|TOKEN-/);
  assert.equal(fs.readFileSync(job.at('at the end'), 'utf8'), 'TOKEN-2');
  assert.equal(fs.readFileSync(job.at('mode'), 'utf8'), '-rw-------\n');
});

test('how loft ended is told', async () => {
  for (const [status, expected] of [[2, /some paths did not land/], [130, /interrupted/]]) {
    const job = new Job();
    standIn(job, status);
    assert.equal((await job.step('main.js')).code, 0);
    const post = await job.step('post.js');
    assert.equal(post.code, 1);
    assert.match(post.output, expected);
  }
});

test('a loft that is gone before the end of the job is told', async () => {
  const job = new Job();
  standIn(job, 0, 'sleep 0.5; kill -KILL $$', '"$@" & wait');
  assert.equal((await job.step('main.js')).code, 0);
  await until('its end', () => fs.existsSync(path.join(job.state().folder, 'status')));
  const post = await job.step('post.js');
  assert.equal(post.code, 1);
  assert.match(post.output, /::error::loft: it was ended by SIGKILL/);
  job.nothingIsLeft();
});

test('when what keeps loft going is killed, the rest lands and the job hears of it', async () => {
  const job = new Job();
  job.nix('--init');
  assert.equal((await job.step('main.js')).code, 0);
  const built = job.build('first');
  const [background] = fs.readdirSync('/proc').filter((pid) => {
    try {
      return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`background.js\0${job.state().folder}\0`);
    } catch {
      return false;
    }
  });
  process.kill(Number(background), 'SIGKILL');
  await until('the path to land', () => fs.existsSync(job.narinfo(built)));
  const post = await job.step('post.js');
  assert.equal(post.code, 1);
  assert.match(post.output, /::error::loft: what started it was killed/);
});

test('a release is downloaded, compared with its checksum, and put on the path', async () => {
  const job = new Job({ program: '', version: 'v1.2.3' });
  const name = `loft-1.2.3-${system()}`;
  const bin = path.join(job.home, name, 'bin');
  fs.mkdirSync(bin, { recursive: true });
  standIn(job);
  fs.renameSync(job.inputs.program, path.join(bin, 'loft'));
  job.inputs.program = '';
  execFileSync('tar', ['-czf', `${name}.tar.gz`, name], { cwd: job.home });
  const archive = fs.readFileSync(job.at(`${name}.tar.gz`));
  const sum = createHash('sha256').update(archive).digest('hex');
  const sums = (sum) => `${'0'.repeat(64)}  loft_1.2.3_amd64.deb\n${sum}  ${name}.tar.gz\n`;
  const files = { SHA256SUMS: sums(sum), [`${name}.tar.gz`]: archive };
  let trouble = 1;
  const server = http.createServer((request, response) => {
    const file = files[request.url.replace('/releases/v1.2.3/', '')];
    response.statusCode = trouble-- > 0 ? 503 : file ? 200 : 404;
    response.end(response.statusCode === 200 ? file : '');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  job.inputs.releases = `http://127.0.0.1:${server.address().port}/releases/`;

  const main = await job.step('main.js');
  assert.equal(main.code, 0, main.output);
  assert.match(main.output, /^loft 0\.0\.0$/m);
  assert.equal(fs.readFileSync(job.at('path'), 'utf8'), `${path.join(job.state().folder, name, 'bin')}\n`);
  assert.equal((await job.step('post.js')).code, 0);

  for (const [mistake, expected] of [
    [{ SHA256SUMS: sums('1'.repeat(64)) }, /::error::.* is not what the release holds/],
    [{ SHA256SUMS: `${sum}  else.tar.gz\n` }, /::error::.*SHA256SUMS does not name/],
    [{ [`${name}.tar.gz`]: undefined }, /::error::cannot download .*: status 404/],
  ]) {
    const kept = { ...files };
    Object.assign(files, mistake);
    const refused = await job.step('main.js');
    assert.equal(refused.code, 1);
    assert.match(refused.output, expected);
    Object.assign(files, kept);
  }
  server.close();
  job.inputs.version = '1.2.3/../../else';
  assert.match((await job.step('main.js')).output, /::error::version: .* is no version/);
});

test('without a version, it is that of this checkout', () => {
  const own = /^version = "(.*)"$/m.exec(fs.readFileSync(path.join(__dirname, '..', 'Cargo.toml'), 'utf8'))[1];
  if (own.endsWith('-dev')) assert.throws(version, /which is no release/);
  else assert.equal(version(), own);
});

// No package reads YAML here; this much can be told without one.
test('action.yml has every input that is asked for, and no other', () => {
  const yaml = fs.readFileSync(path.join(__dirname, '..', 'action.yml'), 'utf8');
  const inputs = yaml.slice(yaml.indexOf('\ninputs:'), yaml.indexOf('\nruns:'));
  const declared = [...inputs.matchAll(/^  ([a-z-]+):$/gm)].map((match) => match[1]).sort();
  const sources = ['main', 'post', 'install'].map((name) => fs.readFileSync(path.join(__dirname, `${name}.js`), 'utf8')).join('');
  const missing = declared.filter((name) => !sources.includes(`'${name}'`));
  assert.deepEqual(missing, []);
  for (const [, name] of sources.matchAll(/input\('([a-z-]+)'\)/g)) assert.ok(declared.includes(name), name);
  for (const [, file] of yaml.matchAll(/^  (?:main|post): (.*)$/gm)) assert.ok(fs.existsSync(path.join(__dirname, '..', file)), file);
});

test('the examples give inputs that there are', () => {
  const read = (name) => fs.readFileSync(path.join(__dirname, '..', name), 'utf8');
  const declared = read('action.yml');
  for (const file of ['docs/ci.md', 'examples/ci/github.yml', 'examples/ci/forgejo.yml']) {
    const given = /OWNER\/loft@.*\n +with:\n((?: {10}.*\n)+)/.exec(read(file));
    const names = [...given[1].matchAll(/^ +(?:# )?([a-z-]+): /gm)].map((match) => match[1]);
    assert.ok(names.length > 2, file);
    for (const name of names) assert.match(declared, new RegExp(`^  ${name}:$`, 'm'), `${name} in ${file}`);
  }
});

// What a runner of GitHub or Forgejo gives to an action and takes from it. No packages: nothing to build, nothing to audit.
'use strict';

const fs = require('node:fs');

/// An input of action.yml; the empty string when it is not given.
function input(name) {
  return (process.env[`INPUT_${name.toUpperCase()}`] ?? '').trim();
}

/// Adds a line to one of the files that the runner reads after the step.
function append(variable, line) {
  const file = process.env[variable];
  if (!file) throw new Error(`the runner has not set ${variable}`);
  fs.appendFileSync(file, `${line}\n`);
}

/// Keeps something for the post step.
function save(name, value) {
  append('GITHUB_STATE', `${name}=${value}`);
}

function saved(name) {
  return process.env[`STATE_${name}`] ?? '';
}

/// A command to the runner. Of its text only these signs have a meaning.
function command(name, text) {
  const escaped = text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
  process.stdout.write(`::${name}::${escaped}\n`);
}

/// Has the runner replace a secret by *** in every log from now on. Masks are per line.
function mask(secret) {
  for (const line of secret.split(/\r?\n/)) if (line.trim()) command('add-mask', line.trim());
}

/// Runs a step. What goes wrong is one line for people, not a stack.
async function step(work) {
  try {
    await work();
  } catch (error) {
    command('error', error.message);
    process.exitCode = 1;
  }
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

module.exports = { input, append, save, saved, command, mask, step, sleep };

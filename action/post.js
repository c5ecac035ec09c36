// At the end of the job, whatever became of it: waits until all is pushed, shows what loft said, and takes the secrets away.
'use strict';

const fs = require('node:fs');
const net = require('node:net');
const { input, saved, command, step } = require('./runner.js');

/// Writes what was added to a file since the last time.
function follow(file) {
  let shown = 0;
  return () => {
    const text = fs.readFileSync(file);
    process.stdout.write(text.subarray(shown));
    shown = text.length;
  };
}

/// Tells background.js that the job is over, and waits for its end.
function ending() {
  return new Promise((resolve) => {
    // An error, when it is not there any more, is followed by close as well.
    net.connect('socket').on('error', () => {}).on('close', resolve).resume();
  });
}

async function push() {
  const show = follow('log');
  const timer = setInterval(show, 200);
  await ending();
  clearInterval(timer);
  show();
  const status = fs.existsSync('status') ? fs.readFileSync('status', 'utf8') : 'what started it was killed';
  if (status === '0') return;
  const meaning = { 1: 'pushing stopped', 2: 'some paths did not land', 130: 'pushing was interrupted' }[status] ?? status;
  const message = `loft: ${meaning}; the log of this step tells more`;
  if (input('allow-failure') !== 'true') throw new Error(message);
  command('warning', message);
}

step(async () => {
  const folder = saved('folder');
  if (!folder) return;
  process.chdir(folder);
  try {
    if (saved('pushing')) await push();
  } finally {
    process.chdir('/');
    fs.rmSync(folder, { recursive: true, force: true });
  }
});

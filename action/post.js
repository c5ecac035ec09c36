// At the end of the job, whatever became of it: waits until all is pushed, shows what loft said, and takes the secrets away.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { input, saved, command, step, sleep } = require('./runner.js');

/// Writes what was added to the log since the last time.
function follow(file) {
  let shown = 0;
  return () => {
    const text = fs.readFileSync(file);
    process.stdout.write(text.subarray(shown));
    shown = text.length;
  };
}

async function push(folder) {
  const status = path.join(folder, 'status');
  const pid = Number(saved('pid'));
  const alive = () => { try { return process.kill(pid, 0); } catch { return false; } };
  const show = follow(path.join(folder, 'log'));
  fs.writeFileSync(path.join(folder, 'stop'), '');
  while (!fs.existsSync(status) && alive()) {
    show();
    await sleep(200);
  }
  show();
  // Between the two looks above it may have ended well.
  const ended = fs.existsSync(status) ? fs.readFileSync(status, 'utf8') : 'it was killed, or the machine was too small for it';
  if (ended === '0') return;
  const meaning = { 1: 'pushing stopped', 2: 'some paths did not land', 130: 'pushing was interrupted' }[ended] ?? ended;
  const message = `loft: ${meaning}; the log of this step tells more`;
  if (input('allow-failure') !== 'true') throw new Error(message);
  command('warning', message);
}

step(async () => {
  const folder = saved('folder');
  if (!folder) return;
  try {
    if (saved('pushing')) await push(folder);
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
});

// Tokens by which a job shows who it is. Loft exchanges them for credentials of AWS by itself (docs/configuration.md).
'use strict';

const fs = require('node:fs');

/// Asks the runner's server for a token, puts it where loft looks for it, and gives it.
async function renew(file, audience) {
  const { ACTIONS_ID_TOKEN_REQUEST_URL: address, ACTIONS_ID_TOKEN_REQUEST_TOKEN: bearer } = process.env;
  if (!address || !bearer) {
    throw new Error('role-to-assume needs a token of the job, and the job may not ask for one: give it ' +
      '"permissions: { id-token: write }" (GitHub) or "enable-openid-connect: true" (Forgejo)');
  }
  const url = new URL(address);
  url.searchParams.set('audience', audience);
  let answer;
  try {
    answer = await fetch(url, { headers: { authorization: `Bearer ${bearer}` }, signal: AbortSignal.timeout(30_000) });
  } catch (error) {
    throw new Error(`cannot ask ${url.host} for a token of the job: ${error.cause?.message ?? error.message}`);
  }
  if (!answer.ok) throw new Error(`${url.host} gave no token of the job: status ${answer.status}`);
  const { value } = await answer.json();
  if (!value) throw new Error(`${url.host} gave no token of the job: its answer has none`);
  // Loft may read it at any moment: never half of it.
  fs.writeFileSync(`${file}.new`, value, { mode: 0o600 });
  fs.renameSync(`${file}.new`, file);
  return value;
}

module.exports = { renew };

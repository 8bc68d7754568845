// Drives one WeChat SDK for sdk_test.go: node driver.cjs NAME, with NAME.cjs beside it.
//
// Each line of stdin is a step, each line of stdout its outcome:
//
//	{"step":"open","base":"http://127.0.0.1:8080","appid":"wx..","secret":"..","folder":"/tmp/.."}
//	{"step":"user.info","openid":"o.."}
//
//	{"step":"user.info","ok":true,"value":"o..","calls":1}
//	{"step":"user.info","ok":false,"errcode":48001,"error":"api unauthorized","calls":1}
//
// calls is how many HTTP requests the step took. A step that the SDK has no method for is answered
// with "absent":true.
'use strict';

const crypto = require('node:crypto');
const diagnostics = require('node:diagnostics_channel');
const readline = require('node:readline');

// Before any SDK is loaded, so that none gets past it.
let calls = 0;
diagnostics.subscribe('http.client.request.start', () => { calls++; });

const sdk = require(`./${process.argv[2]}.cjs`);

// What a test wants to know of each answer.
const tell = {
  'token': (answer) => answer,
  'menu.create': (answer) => answer.errmsg,
  'menu.get': (answer) => answer.menu.button[0].name,
  'menu.delete': (answer) => answer.errmsg,
  'user.info': (answer) => answer.openid,
  'user.list': (answer) => String(answer.data.openid.length),
  'message.send': (answer) => answer.errmsg,
  'qrcode.create': (answer) => answer.ticket,
  'statistics': (answer) => String(answer.list.length),
  'media.upload': (answer) => answer.media_id,
  'media.get': (answer) => crypto.createHash('sha256').update(answer).digest('hex'),
  'ticket': (answer) => answer,
};

let client;

async function perform(step) {
  if (step.step === 'open') {
    client = await sdk(step);
    return '';
  }
  const answer = await client[step.step](step);
  if (answer && answer.errcode) { // this SDK leaves the errcode to those who call it
    throw answer;
  }
  return tell[step.step](answer);
}

// errcode finds WeChat's code in whatever an SDK throws: in a field, or in the text.
function errcode(error) {
  for (const code of [error.errcode, error.code]) {
    if (typeof code === 'number') {
      return code;
    }
  }
  const found = /"errcode":\s*(-?\d+)/.exec(error.message || '');
  return found ? Number(found[1]) : null;
}

async function main() {
  for await (const line of readline.createInterface({input: process.stdin})) {
    const step = JSON.parse(line);
    const outcome = {step: step.step};
    calls = 0;
    try {
      if (step.step !== 'open' && !client[step.step]) {
        outcome.absent = true;
      } else {
        outcome.value = await perform(step);
        outcome.ok = true;
      }
    } catch (error) {
      outcome.ok = false;
      outcome.errcode = errcode(error);
      outcome.error = error.errmsg || error.message || String(error);
    }
    outcome.calls = calls;
    process.stdout.write(JSON.stringify(outcome) + '\n');
  }
  process.exit(0); // some SDKs leave timers and sockets behind
}

main();

'use strict';

const {promisify} = require('node:util');
const API = require('wechat-api');

module.exports = async ({base, appid, secret, token, key}) => {
  if (key) {
    base = base.replace('://', `://${appid}:${key}@`);
  }
  let kept;
  if (token) {
    kept = {accessToken: token, expireTime: Date.now() + 3600e3};
  }
  const api = new API(appid, secret, (done) => done(null, kept), (fresh, done) => { kept = fresh; done(null); });
  api.endpoint = base; // setEndpoint takes a host only, and then asks for https
  api.fileServerPrefix = base + '/cgi-bin/';
  const call = (name, ...args) => promisify(api[name]).apply(api, args);
  return {
    'token': async () => (await call('getLatestToken')).accessToken,
    'menu.create': ({menu}) => call('createMenu', menu),
    'menu.get': () => call('getMenu'),
    'menu.delete': () => call('removeMenu'),
    'user.info': ({openid}) => call('getUser', openid),
    'user.list': () => call('getFollowers'),
    'message.send': ({openid, text}) => call('sendText', openid, text),
    'qrcode.create': () => call('createTmpQRCode', 1, 60),
    'statistics': ({day}) => call('getUserSummary', day, day),
    'media.upload': ({file}) => call('uploadMedia', file, 'image'),
    'media.get': ({media}) => call('getMedia', media),
    'ticket': async () => (await call('getLatestTicket')).ticket,
  };
};

'use strict';

const API = require('co-wechat-api');

// The base URL is in these fields, but not for datacube, shakearound, semantic and some more, which
// have the address written out. All calls go through request.
class Gateway extends API {
  constructor(base, ...rest) {
    super(...rest);
    this.base = base;
    this.prefix = base + '/cgi-bin/';
    this.fileServerPrefix = base + '/cgi-bin/';
    this.snsPrefix = base + '/sns/';
    this.merchantPrefix = base + '/merchant/';
    this.customservicePrefix = base + '/customservice/';
    this.wxaPrefix = base + '/wxa/';
  }

  request(url, ...rest) {
    return super.request(url.replace(/^https:\/\/api\.weixin\.qq\.com(?=\/)/, this.base), ...rest);
  }
}

// httpx, which sends the calls, drops user and password from an address. This hook of httpx puts
// them into each call instead. Headers in setOpts would not do: the SDK keeps those of an upload
// in the same object and sends them again with every later call.
function basic(user, password) {
  const value = 'Basic ' + Buffer.from(`${user}:${password}`).toString('base64');
  return (options) => ({...options, headers: {...options.headers, Authorization: value}});
}

module.exports = async ({base, appid, secret, token, key}) => {
  let kept;
  if (token) {
    kept = {accessToken: token, expireTime: Date.now() + 3600e3};
  }
  const api = new Gateway(base, appid, secret, async () => kept, async (fresh) => { kept = fresh; });
  if (key) {
    api.setOpts({beforeRequest: basic(appid, key)});
  }
  return {
    'token': async () => (await api.ensureAccessToken()).accessToken,
    'menu.create': ({menu}) => api.createMenu(menu),
    'menu.get': () => api.getMenu(),
    'menu.delete': () => api.removeMenu(),
    'user.info': ({openid}) => api.getUser(openid),
    'user.list': () => api.getFollowers(),
    'message.send': ({openid, text}) => api.sendText(openid, text),
    'qrcode.create': () => api.createTmpQRCode(1, 60),
    'statistics': ({day}) => api.getUserSummary(day, day),
    'media.upload': ({file}) => api.uploadMedia(file, 'image'),
    'media.get': ({media}) => api.getMedia(media),
    'ticket': async () => (await api.getLatestTicket()).ticket,
  };
};

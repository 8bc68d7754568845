'use strict';

const tnwx = require('tnwx');

const wechat = /^https?:\/\/api\.weixin\.qq\.com(?=\/)/;

// tnwx has every address written out. What it sends them with can be replaced.
class Delegate extends tnwx.AxiosHttpKit {
  constructor(base) {
    super();
    this.base = base;
  }

  moved(url) {
    return url.replace(wechat, this.base);
  }

  httpGet(url, options) {
    if (url.includes('/media/get')) {
      options = {...options, responseType: 'arraybuffer'}; // without it axios makes text of the bytes
    }
    return super.httpGet(this.moved(url), options);
  }

  httpPost(url, data, options) {
    return super.httpPost(this.moved(url), data, options);
  }

  upload(url, path, params) {
    return super.upload(this.moved(url), path, params);
  }
}

module.exports = async ({base, appid, secret, token, key}) => {
  if (key) {
    base = base.replace('://', `://${appid}:${key}@`);
  }
  tnwx.HttpKit.setHttpDelegate = new Delegate(base);
  tnwx.ApiConfigKit.setCache = new tnwx.DefaultCache();
  tnwx.ApiConfigKit.putApiConfig(new tnwx.ApiConfig(appid, secret));
  tnwx.ApiConfigKit.setCurrentAppId(appid);
  if (token) {
    await tnwx.ApiConfigKit.getCache.set(appid, JSON.stringify({access_token: token, expires_in: 3600, expired_time: Date.now() + 3600e3}));
  }
  const {MenuApi, UserApi, CustomServiceApi, QrcodeApi, DatacubeApi, MediaApi, MediaType, JsTicketApi, JsApiType} = tnwx;
  return {
    'token': async () => {
      const fetched = await tnwx.AccessTokenApi.getAccessToken();
      if (fetched.getErrCode) {
        throw {errcode: fetched.getErrCode, errmsg: fetched.getErrMsg};
      }
      return fetched.getAccessToken;
    },
    'menu.create': ({menu}) => MenuApi.create(JSON.stringify(menu)),
    'menu.get': () => MenuApi.get(),
    'menu.delete': () => MenuApi.delete(),
    'user.info': ({openid}) => UserApi.getUserInfo(openid),
    'user.list': () => UserApi.getFollowers(),
    'message.send': ({openid, text}) => CustomServiceApi.sendText(openid, text),
    'qrcode.create': () => QrcodeApi.createTemporary(60, 1),
    'statistics': ({day}) => DatacubeApi.getUserSummary(day, day),
    'media.upload': ({file}) => MediaApi.uploadMedia(file, MediaType.IMAGE),
    'media.get': ({media}) => MediaApi.getMedia(media),
    'ticket': async () => {
      const fetched = JSON.parse((await JsTicketApi.getTicket(JsApiType.JSAPI)).getCacheJson);
      return fetched.errcode ? fetched : fetched.ticket;
    },
  };
};

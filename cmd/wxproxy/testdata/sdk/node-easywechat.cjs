'use strict';

const {OfficialAccount} = require('node-easywechat');

module.exports = async ({base, appid, secret, token, key, folder}) => {
  if (key) {
    base = base.replace('://', `://${appid}:${key}@`);
  }
  const app = new OfficialAccount({
    app_id: appid,
    secret,
    http: {baseURL: base + '/'},
    file_cache: {path: folder},
  });
  if (token) {
    await app.getCache().set(app.getAccessToken().getKey(), token, 3600);
  }
  const client = app.getClient();
  const get = async (path, params) => (await client.get(path, {params})).toObject();
  const post = async (path, json) => (await client.postJson(path, json)).toObject();
  return {
    'token': () => app.getAccessToken().getToken(),
    'menu.create': ({menu}) => post('cgi-bin/menu/create', menu),
    'menu.get': () => get('cgi-bin/menu/get'),
    'menu.delete': () => get('cgi-bin/menu/delete'),
    'user.info': ({openid}) => get('cgi-bin/user/info', {openid}),
    'user.list': () => get('cgi-bin/user/get'),
    'message.send': ({openid, text}) => post('cgi-bin/message/custom/send', {touser: openid, msgtype: 'text', text: {content: text}}),
    'qrcode.create': () => post('cgi-bin/qrcode/create', {expire_seconds: 60, action_name: 'QR_SCENE', action_info: {scene: {scene_id: 1}}}),
    'statistics': ({day}) => post('datacube/getusersummary', {begin_date: day, end_date: day}),
    'media.upload': async ({file}) => (await client.withFile(file, 'media').post('cgi-bin/media/upload', {params: {type: 'image'}})).toObject(),
    'media.get': async ({media}) => (await client.get('cgi-bin/media/get', {params: {media_id: media}, responseType: 'arraybuffer'})).getContent(),
    'ticket': () => app.getTicket().getTicket(),
  };
};

'use strict';

const path = require('node:path');
const {Wechat} = require('wechat-jssdk');

let opened = 0;

// It signs pages for the JS-SDK, and has no other calls of an account's.
module.exports = async ({base, appid, secret, token, key, folder}) => {
  if (key) {
    base = base.replace('://', `://${appid}:${key}@`);
  }
  const {jssdk, store} = new Wechat({
    appId: appid,
    appSecret: secret,
    apiUrl: base,
    accessTokenUrl: base + '/cgi-bin/token',
    ticketUrl: base + '/cgi-bin/ticket/getticket',
    storeOptions: {fileStorePath: path.join(folder, `wechat-info-${opened++}.json`)},
  });
  if (token) {
    await store.updateGlobalToken({accessToken: token, modifyDate: new Date()});
  }
  return {
    'token': async () => {
      await jssdk.prepareGlobalToken(); // fetches a ticket along with it
      return (await store.getGlobalToken()).accessToken;
    },
    'ticket': async () => (await jssdk.getJsApiTicket((await store.getGlobalToken()).accessToken)).ticket,
  };
};

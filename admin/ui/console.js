// The console's own layout (公众平台 → 接口权限): which 类目 each 功能 stands under, and in which order.
const layout = [
  ["对话服务", ["基础支持", "接收消息", "发送消息", "用户管理", "推广支持", "界面丰富", "素材管理", "草稿箱", "发布能力"]],
  ["功能服务", ["智能接口", "多客服", "微信支付", "微信小店", "微信卡包", "设备功能"]],
  ["网页服务", ["网页授权", "基础接口", "分享接口", "图像接口", "音频接口"]],
  ["小程序", ["小程序登录", "接口调用凭据", "小程序码", "内容安全"]],
  ["接口管理", ["接口管理"]],
];

const places = new Map(layout.flatMap(([kind, all], i) => all.map((category, j) => [category, { kind, at: 100 * i + j }])));

// arranged puts rows into the groups of the console. What it does not have comes last.
export function arranged(rows) {
  const groups = new Map();
  for (const row of rows) {
    if (!groups.has(row.category)) groups.set(row.category, []);
    groups.get(row.category).push(row);
  }
  const place = (category) => places.get(category) ?? { kind: "", at: 1000 };
  return [...groups].map(([category, of]) => ({ category, kind: place(category).kind, at: place(category).at, rows: of })).sort((x, y) => x.at - y.at);
}

package words

// foreign are texts that other packages compose in English, with their translation. {name} stands for what
// differs, and is translated as well. Of two that match the first is used.
var foreign = [][2]string{
	// internal/reason
	{"no answer in time", "没有及时应答"},
	{"the certificate is for another name", "证书是另一个名字的"},
	{"the certificate's issuer is unknown", "证书的签发者未知"},
	{"the certificate is not valid", "证书无效"},
	{"no TLS", "对方没有使用 TLS"},
	{"the connection was closed before an answer", "还没有应答连接就关闭了"},
	{"no HTTP, or a connection that broke", "对方说的不是 HTTP，或连接中断了"},
	{"context canceled", "已取消"},
	{"no such file", "没有这个文件"},
}

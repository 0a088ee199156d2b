// A strict OpenID Provider for the end-to-end tests: npm's oidc-provider with
// PKCE required, rotating refresh tokens and the smallest possible login page.
//
// usage: node server.mjs MODULES, with the configuration as JSON on standard input:
//   {"port": of the issuer, "listen": port, the same unless a proxy stands before it, "clients": [...],
//    "users": {"alice": {claims}}, "short": seconds that the access token of a login lives (0: an hour),
//    "secrets": "file that every minted secret is appended to"}
// It says "grant TYPE" for each answer of the token endpoint, "family revoked" when a
// refresh token came twice, and "logout sent" for each logout token that was taken.
import { appendFileSync, readFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const { default: Provider } = await import(pathToFileURL(resolve(process.argv[2], 'node_modules/oidc-provider/lib/index.js')));
const config = JSON.parse(readFileSync(0, 'utf8'));
const issuer = `http://127.0.0.1:${config.port}`;

const mint = (...values) => values.filter(Boolean).forEach((v) => appendFileSync(config.secrets, `${v}\n`));

// Names below localhost are this machine, which neither fetch nor the system's resolver knows.
const lookup = (host, options, done) => (options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4));
const post = (url, { method, headers, body }) =>
  new Promise((resolve, reject) => {
    mint(new URLSearchParams(String(body)).get('logout_token'));
    const req = request(url, { method, headers: Object.fromEntries(new Headers(headers)), lookup }, (res) => {
      res.resume().on('end', () => resolve(new Response(null, { status: res.statusCode })));
    });
    req.on('error', reject).end(String(body));
  });

const hour = 3600;

const provider = new Provider(issuer, {
  clients: config.clients,
  claims: { openid: ['sub', 'groups'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username'] },
  conformIdTokenClaims: false, // claims of the scopes go into the ID token too, as most providers do it
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: async () => true,
  ttl: { AccessToken: (ctx) => (config.short && ctx.oidc.params.grant_type === 'authorization_code' ? config.short : hour) },
  features: {
    backchannelLogout: { enabled: true },
    devInteractions: { enabled: false },
    rpInitiatedLogout: {
      // Signing out at the provider needs no question here: the client asked.
      logoutSource: async (ctx, form) => {
        ctx.body = `<!doctype html><title>Signing out</title>${form}<button autofocus form="op.logoutForm" name="logout" value="yes" id="end">Sign out of the provider</button>`;
      },
    },
  },
  cookies: { keys: [crypto.randomUUID()] },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  findAccount: async (ctx, sub) => config.users[sub] && { accountId: sub, claims: async () => ({ sub, ...config.users[sub] }) },
  // Everybody has consented to everything.
  loadExistingGrant: async (ctx) => {
    const { client, session, params } = ctx.oidc;
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope(params.scope);
    await grant.save();
    return grant;
  },
  fetch: (url, { dispatcher, ...options }) =>
    new URL(url).hostname.endsWith('.localhost') ? post(url, options) : globalThis.fetch(url, options),
});

provider.on('authorization.success', (ctx, out) => mint(out?.code, out?.state));
provider.on('grant.success', (ctx) => mint(ctx.body?.access_token, ctx.body?.id_token, ctx.body?.refresh_token, ctx.oidc.params?.code_verifier));
provider.on('grant.success', (ctx) => console.log(`grant ${ctx.oidc.params.grant_type}`));
provider.on('grant.revoked', () => console.log('family revoked'));
provider.on('backchannel.success', () => console.log('logout sent'));
provider.on('backchannel.error', (ctx, err) => console.error('logout failed', err.message));
provider.on('server_error', (ctx, err) => console.error('server_error', err));
for (const event of ['authorization.error', 'grant.error', 'end_session.error']) {
  provider.on(event, (ctx, err) => console.error(event, err.error, err.error_description));
}

const page = (users) => `<!doctype html><title>Choose a user</title><form method="post">${users
  .map((u) => `<button name="user" value="${u}" id="${u}">${u}</button>`)
  .join(' ')} <button name="refuse" value="1" id="refuse">refuse</button></form>`;

const body = async (req) => {
  let text = '';
  for await (const chunk of req) text += chunk;
  return new URLSearchParams(text);
};

const callback = provider.callback();
createServer(async (req, res) => {
  if (!req.url.startsWith('/interaction/')) return callback(req, res);
  try {
    if (req.method === 'GET') return res.setHeader('content-type', 'text/html').end(page(Object.keys(config.users)));
    const form = await body(req);
    const result = form.get('refuse')
      ? { error: 'access_denied', error_description: 'the user said no' }
      : { login: { accountId: form.get('user') } };
    await provider.interactionFinished(req, res, result, { mergeWithLastSubmission: false });
  } catch (err) {
    console.error(err);
    res.writeHead(500).end(String(err));
  }
}).listen(config.listen, '127.0.0.1', () => console.log(`listening on ${issuer}`));

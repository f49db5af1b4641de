/**
 * @file Who may use the API. The page's shell is free; everything below /api needs the token, on loopback too: other users of the
 * machine reach it there. There are no cookies, so nothing that a browser sends by itself gives access.
 *
 * A page of another site is kept out by its Origin, and by the name it calls this host: DNS rebinding points a name of its own at
 * a loopback address, and that name is in the Host header.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import type { MiddlewareHandler } from 'hono';
import { isLoopback } from '../options/studio-options.js';

export interface AccessRules {
  /** Undefined: none is asked for. */
  token: string | undefined;
  /** Names besides loopback's. */
  allowedHosts: readonly string[];
  /** Whether the server listens on more than loopback. */
  isPublic: boolean;
}

export function newToken(): string {
  return randomBytes(24).toString('base64url');
}

/** Checks Host and Origin of every request. */
export function checkHost(rules: AccessRules): MiddlewareHandler {
  return async (context, next) => {
    const host = context.req.header('host');
    if (host === undefined || !isAllowedHost(host, rules))
      return context.json(
        {
          error: `This host is not known as ${host ?? 'nothing'}: start the studio with --allowed-host and its name`,
        },
        421,
      );
    const origin = context.req.header('origin');
    const isForeign =
      (origin !== undefined && !isSameOrigin(origin, host, rules)) ||
      context.req.header('sec-fetch-site') === 'cross-site';
    // A link to the page may be on another site.
    if (isForeign && (origin !== undefined || context.req.path.includes('/api/')))
      return context.json({ error: 'Requests of other sites are refused' }, 403);
    return next();
  };
}

/** Asks for the token. */
export function checkToken({ token }: AccessRules): MiddlewareHandler {
  return async (context, next) => {
    if (token === undefined) return next();
    const [, sent = ''] = /^Bearer (.+)$/.exec(context.req.header('authorization') ?? '') ?? [];
    if (!areEqual(sent, token))
      return context.json(
        { error: 'The token is missing or wrong: open the address that `ip-adapter studio` has printed' },
        401,
        { 'WWW-Authenticate': 'Bearer' },
      );
    return next();
  };
}

/** Compares in a time that does not depend on where two texts differ. */
function areEqual(one: string, other: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(one), digest(other));
}

function isAllowedHost(host: string, { allowedHosts, isPublic }: AccessRules): boolean {
  const name = hostnameOf(`http://${host}`);
  if (name === undefined) return false;
  if (isLoopback(name) || allowedHosts.includes(name)) return true;
  // An address cannot be rebound.
  return isPublic && isIP(name) !== 0;
}

function isSameOrigin(origin: string, host: string, { allowedHosts }: AccessRules): boolean {
  const name = hostnameOf(origin);
  if (name === undefined) return false;
  return new URL(origin).host === host || allowedHosts.includes(name);
}

function hostnameOf(url: string): string | undefined {
  if (!URL.canParse(url)) return undefined;
  return new URL(url).hostname.replace(/^\[|\]$/g, '');
}

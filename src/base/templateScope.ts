import { HrunError } from './errors.ts';

/** Whom a template is for: guests that share one can tell by timing which of its pages another one has touched. */
export type TemplateScope = { readonly kind: 'host' } | { readonly kind: 'tenant'; readonly name: string };

/** Whose guests a microVM may share the pages of a template with; `none`: nobody's, so that it boots. */
export type WishedScope = TemplateScope | { readonly kind: 'none' };

/** `host`, `none` or `tenant=NAME`. @throws HrunError INVALID_ARGUMENT */
export function parseTemplateScope(text: string): WishedScope {
  if (text === 'host') return { kind: 'host' };
  if (text === 'none') return { kind: 'none' };
  const name = /^tenant=([a-zA-Z0-9][a-zA-Z0-9_.-]{0,127})$/.exec(text)?.[1];
  if (name !== undefined) return { kind: 'tenant', name };
  throw new HrunError('INVALID_ARGUMENT', `"${text}" is no template scope`, {
    hint: 'use host, none or tenant=NAME',
  });
}

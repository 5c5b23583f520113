import { z } from 'zod';
import { HrunError } from '../base/errors.ts';

/** What the names of all taps begin with. */
export const tapPrefix = 'hrt-';
/** Where Docker leaves room for rules of others. */
const dockerUser = 'DOCKER-USER';
/** Families whose tables iptables and ip6tables make. */
const iptablesOf: ReadonlyMap<string, string> = new Map([
  ['ip', 'iptables'],
  ['ip6', 'ip6tables'],
]);

const ChainSchema = z.object({
  family: z.string(),
  table: z.string(),
  name: z.string(),
  hook: z.string().optional(),
  policy: z.string().optional(),
});
const RuleSchema = z.object({
  family: z.string(),
  table: z.string(),
  chain: z.string(),
  expr: z.array(z.record(z.string(), z.unknown())).default([]),
});
const InterfaceMatch = z.object({
  match: z.object({
    op: z.string(),
    left: z.object({ meta: z.object({ key: z.enum(['iifname', 'oifname']) }) }),
    right: z.string(),
  }),
});
const Listing = z.object({
  nftables: z.array(z.object({ chain: ChainSchema.optional(), rule: RuleSchema.optional() })),
});

type Chain = z.infer<typeof ChainSchema>;
type Rule = z.infer<typeof RuleSchema>;

/** A chain of somebody else that drops what guests send beyond the host, or what is sent to them. */
export interface ClosedChain {
  /** Family, table and chain, as nft names them. */
  readonly name: string;
  /** Has it let guests through, for hrun's own rules to decide. */
  readonly commands: readonly string[];
}

/**
 * Chains that drop whatever is passed on and that they are not told of, and that are not told of our taps.
 * @param listing of `nft -j list ruleset`
 * @throws HrunError NETWORK_FAILED for a listing that is not understood
 */
export function closedChains(listing: unknown): ClosedChain[] {
  const parsed = Listing.safeParse(listing);
  if (!parsed.success) {
    throw new HrunError('NETWORK_FAILED', 'the rules that nft lists are not understood', {
      cause: parsed.error,
    });
  }
  const chains = parsed.data.nftables.flatMap(({ chain }) => chain ?? []);
  const rules = parsed.data.nftables.flatMap(({ rule }) => rule ?? []);
  return chains
    .filter((chain) => chain.hook === 'forward' && dropsTheRest(chain, rules))
    .flatMap((chain) => {
      const inTable = rules.filter(({ family, table }) => family === chain.family && table === chain.table);
      const missing = (['iifname', 'oifname'] as const).filter(
        (key) => !inTable.some((rule) => passes(rule, key)),
      );
      if (missing.length === 0) return [];
      const { family, table, name } = chain;
      const commands = missing.map((key) => commandFor(key, chain, chains));
      return [{ name: `${family} ${table} ${name}`, commands }];
    });
}

function dropsTheRest({ family, table, name, policy }: Chain, rules: readonly Rule[]): boolean {
  if (policy === 'drop') return true;
  const last = rules.findLast(
    (rule) => rule.family === family && rule.table === table && rule.chain === name,
  );
  const what = last?.expr.filter((statement) => !('counter' in statement)) ?? [];
  return what.length === 1 && what.some((statement) => 'drop' in statement || 'reject' in statement);
}

/** Whether a rule lets all of our taps through. */
function passes({ expr }: Rule, key: 'iifname' | 'oifname'): boolean {
  const matches = expr.flatMap((statement) =>
    'match' in statement ? [InterfaceMatch.safeParse(statement)] : [],
  );
  const [only, more] = matches;
  if (only?.success !== true || more !== undefined || !expr.some((statement) => 'accept' in statement))
    return false;
  const { op, left, right } = only.data.match;
  return op === '==' && left.meta.key === key && right === `${tapPrefix}*`;
}

function commandFor(
  key: 'iifname' | 'oifname',
  { family, table, name }: Chain,
  chains: readonly Chain[],
): string {
  const tool = iptablesOf.get(family);
  if (tool === undefined || table !== 'filter') {
    return `nft insert rule ${family} ${table} ${name} ${key} '"${tapPrefix}*"' accept`;
  }
  const hasRoom = chains.some(
    (one) => one.family === family && one.table === table && one.name === dockerUser,
  );
  return `${tool} -I ${hasRoom ? dockerUser : name} ${key === 'iifname' ? '-i' : '-o'} ${tapPrefix}+ -j ACCEPT`;
}

import { z } from 'zod';

/** What a guest was not allowed to reach. */
export interface Refusal {
  readonly source: string;
  readonly destination: string;
  readonly protocol: string;
  readonly port: number;
  readonly packets: number;
  /** Since the last of them. */
  readonly agoS: number;
}

const lifetimeS = 3600;

const Element = z.object({
  elem: z.object({
    val: z.object({ concat: z.tuple([z.string(), z.string(), z.union([z.string(), z.number()]), z.int()]) }),
    expires: z.number().optional(),
    counter: z.object({ packets: z.number() }).optional(),
  }),
});
const Listing = z.object({
  nftables: z.array(z.object({ set: z.object({ elem: z.array(Element).default([]) }).optional() })),
});

/** The elements of a set of refusals, as nft lists them; none of what is not understood. */
export function readRefusals(listing: unknown): Refusal[] {
  const parsed = Listing.safeParse(listing);
  if (!parsed.success) return [];
  return parsed.data.nftables.flatMap(({ set }) =>
    (set?.elem ?? []).map(({ elem: { val, expires, counter } }) => {
      const [source, destination, protocol, port] = val.concat;
      const agoS = lifetimeS - (expires ?? lifetimeS);
      return { source, destination, protocol: String(protocol), port, packets: counter?.packets ?? 0, agoS };
    }),
  );
}

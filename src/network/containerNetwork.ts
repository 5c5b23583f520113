import { z } from 'zod';
import { EgressPolicySchema } from './endpoint.ts';

const Port = z.int().min(1).max(65_535);

const PortWishSchema = z.object({
  /** Address of the host; empty: all of both families. */
  hostIp: z.string(),
  /** Of these the first that is free; missing: any. */
  hostPorts: z.object({ first: Port, last: Port }).optional(),
  guestPort: Port,
  protocol: z.enum(['tcp', 'udp', 'sctp']),
});
export type PortWish = Readonly<z.infer<typeof PortWishSchema>>;

const ConnectionSchema = z.object({
  /** Name of a network. */
  network: z.string(),
  aliases: z.array(z.string()),
  ipv4: z.string().optional(),
  ipv6: z.string().optional(),
  mac: z.string().optional(),
});

/** What a user wants of networks for a container; part of its configuration. */
export const ContainerNetworkSchema = z.object({
  /** None: loopback only. */
  connections: z.array(ConnectionSchema),
  /** Id of the container whose network, and with it whose microVM, it lives in; there are no connections then. */
  sharedWith: z.string().optional(),
  ports: z.array(PortWishSchema),
  /** Name servers instead of the host's. */
  dns: z.array(z.string()),
  dnsSearch: z.array(z.string()),
  dnsOptions: z.array(z.string()),
  /** Further lines of /etc/hosts; `host-gateway` is the gateway's address. */
  extraHosts: z.array(z.object({ name: z.string(), address: z.string() })),
  egress: EgressPolicySchema.optional(),
  /** Most bytes per second in each direction. */
  rateBytes: z.int().positive().optional(),
});
export type ContainerNetwork = Readonly<z.infer<typeof ContainerNetworkSchema>>;

export const noNetwork: ContainerNetwork = {
  connections: [],
  ports: [],
  dns: [],
  dnsSearch: [],
  dnsOptions: [],
  extraHosts: [],
};

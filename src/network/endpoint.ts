import { z } from 'zod';

const Port = z.int().min(1).max(65_535);

/** A port of the host that leads to one of the guest. */
const PublishedPortSchema = z.object({
  /** Address of the host; empty: all of both families. */
  hostIp: z.string(),
  hostPort: Port,
  guestPort: Port,
  protocol: z.enum(['tcp', 'udp', 'sctp']),
});
export type PublishedPort = Readonly<z.infer<typeof PublishedPortSchema>>;

/** One thing that a guest may reach although its network is closed otherwise. */
const AllowanceSchema = z.object({
  /** `10.0.0.0/8`; missing with a name. */
  range: z.string().optional(),
  /** A DNS name: what it means is allowed once the guest has asked for it. */
  name: z.string().optional(),
  /** Undefined: all. */
  port: Port.optional(),
});

export const EgressPolicySchema = z.object({ allow: z.array(AllowanceSchema) });
/** What a guest may begin to talk to; answers to others always pass. */
export type EgressPolicy = Readonly<z.infer<typeof EgressPolicySchema>>;

/**
 * A guest's place in a network: the lease of its addresses. Part of the container's state file, from before it is used
 * until it is given back.
 */
export const EndpointSchema = z.object({
  /** Name of the network. */
  network: z.string(),
  networkId: z.string(),
  /** Identity of the namespace of the host that it lies in (NetNamespace.identity). */
  netns: z.string(),
  tap: z.string(),
  /** Id of the container; absent in files of before there could be several places of one. */
  container: z.string().optional(),
  /** Which of the microVM's network devices it is. */
  slot: z.int().min(0).max(7).default(0),
  mac: z.string(),
  /** Without the length of their prefix. */
  ipv4: z.string().optional(),
  ipv6: z.string().optional(),
  /** Its names in the network, lower case, the container's own first. */
  names: z.array(z.string()),
  ports: z.array(PublishedPortSchema),
  /** Undefined: everything but metadata services. */
  egress: EgressPolicySchema.optional(),
  /** Most bytes per second in each direction. */
  rateBytes: z.int().positive().optional(),
  /** Name servers that the network's resolver asks for this guest. */
  upstream: z.array(z.string()),
});
export type Endpoint = Readonly<z.infer<typeof EndpointSchema>>;

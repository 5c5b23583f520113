import { z } from 'zod';

/** A network that containers can be connected to; the file of a user-defined one. */
export const NetworkDefinitionSchema = z.object({
  version: z.literal(1),
  id: z.string().regex(/^[0-9a-f]{64}$/),
  name: z.string(),
  createdAt: z.string(),
  /** Name of the bridge in the namespaces where it is in use. */
  bridge: z.string(),
  /** Its addresses, the gateways, with the lengths of the ranges' prefixes: `10.1.0.1/16`. */
  gateway4: z.string(),
  gateway6: z.string().optional(),
  /** Leads nowhere else. */
  internal: z.boolean(),
  mtu: z.int().min(68).max(65_535),
  labels: z.record(z.string(), z.string()),
});
export type NetworkDefinition = Readonly<z.infer<typeof NetworkDefinitionSchema>>;

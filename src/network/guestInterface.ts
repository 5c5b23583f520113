/** What the guest's side of one network device becomes; addresses and ranges in their usual notation. */
export interface GuestInterface {
  /** Name inside the guest: `eth0`. */
  readonly name: string;
  /** Which of the microVM's network devices it is; undefined: as its place in the list. */
  readonly slot?: number;
  readonly mac: string;
  readonly mtu: number;
  /** With the length of their prefix: `172.17.0.2/16`. */
  readonly addresses: readonly string[];
  /** In an order in which each gateway can be reached when its turn comes. */
  readonly routes: readonly GuestRoute[];
  readonly neighbours: readonly { readonly address: string; readonly mac: string }[];
}

export interface GuestRoute {
  /** `0.0.0.0/0` and `::/0` are the default routes. */
  readonly destination: string;
  /** None: the destination is on the link. */
  readonly gateway?: string;
  readonly source?: string;
  readonly metric?: number;
  /** The gateway is on the link although no address says so. */
  readonly onLink?: boolean;
}

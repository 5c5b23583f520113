const AF_UNIX = 1;
/** sun_path of unix(7), its final NUL included. */
const maxUnixPathBytes = 108;

/** struct sockaddr_un for a path. @throws for one that is too long */
export function unixAddress(path: string): Buffer {
  const sunPath = Buffer.from(path);
  if (sunPath.length >= maxUnixPathBytes) {
    throw new Error(`${path} is longer than ${maxUnixPathBytes - 1} bytes, the limit of a unix socket`);
  }
  const address = Buffer.alloc(2 + sunPath.length + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  sunPath.copy(address, 2);
  return address;
}

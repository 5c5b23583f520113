/**
 * The files of whoever called `hrun`, in its namespaces, with its rights: the engine never opens such a path itself.
 * Paths may be relative to the caller's working directory. Failures are HrunErrors HAND_FAILED that name the path.
 */
export interface CallerFiles {
  readonly cwd: string;
  /** @throws HrunError HAND_FAILED also for a file larger than `maxBytes` */
  readFile(path: string, maxBytes: number, signal: AbortSignal): Promise<Buffer>;
  openRead(path: string, signal: AbortSignal): Promise<CallerReader>;
  /**
   * A file or block device as a descriptor of this process, opened by the caller; a link at the end of the path is not
   * followed, and a block device is claimed (O_EXCL of open(2)): no other claims or mounts it meanwhile.
   * @throws HrunError HAND_FAILED, INVALID_ARGUMENT for what is neither a regular file nor a block device
   */
  openDescriptor(
    path: string,
    options: { readonly readonly: boolean },
    signal: AbortSignal,
  ): Promise<CallerDescriptor>;
  openWrite(path: string, options: WriteOptions, signal: AbortSignal): Promise<CallerWriter>;
  stat(path: string, options: { readonly followLink: boolean }, signal: AbortSignal): Promise<CallerStat>;
  rename(from: string, to: string, signal: AbortSignal): Promise<void>;
  unlink(path: string, signal: AbortSignal): Promise<void>;
  /** The command's own stdin as a byte stream (`load`, `cp - …`). */
  readStdin(signal: AbortSignal): AsyncIterable<Buffer>;
  /**
   * Writes a tar of `path`, its entries named `name/…`, to a file of the daemon that exists; answers its length.
   */
  pack(request: PackRequest, signal: AbortSignal): Promise<{ readonly bytes: number }>;
  /**
   * Extracts a tar that the daemon holds below a directory of the caller, following no links. Devices are left out.
   */
  unpack(request: UnpackRequest, signal: AbortSignal): Promise<{ readonly skippedDevices: number }>;
  /** With its parents; one that exists stays as it is. */
  makeDirectory(path: string, mode: number, signal: AbortSignal): Promise<void>;
  /** Runs a program in the caller's namespaces to its end. */
  runProgram(request: ProgramRequest, signal: AbortSignal): Promise<ProgramEnd>;
  /** Makes the caller's process another program, with all that it has: stdio, environment, descriptors. Answers on failure only. */
  become(
    program: { readonly path: string; readonly args: readonly string[] },
    signal: AbortSignal,
  ): Promise<never>;
  /** Starts a stand-in in the caller's namespaces. */
  standIn(request: StandInRequest, signal: AbortSignal): Promise<{ readonly pid: number }>;
}

export interface CallerReader extends AsyncIterable<Buffer>, AsyncDisposable {
  readonly sizeBytes: number;
  readonly isDirectory: boolean;
}

/** Disposing closes it here. */
export interface CallerDescriptor extends Disposable {
  readonly fd: number;
  readonly kind: 'file' | 'block';
}

export interface CallerWriter extends AsyncDisposable {
  write(bytes: Uint8Array, signal: AbortSignal): Promise<void>;
  /** Closes and reports what could not be written. Disposing without it closes silently. */
  close(signal: AbortSignal): Promise<void>;
}

export interface WriteOptions {
  /** Fail when it exists, instead of truncating it. */
  readonly exclusive: boolean;
  /** Add to the end of what is there. */
  readonly append?: boolean;
  readonly mode: number;
}

export interface CallerStat {
  readonly sizeBytes: number;
  /** st_mode, type bits included. */
  readonly mode: number;
  readonly mtimeMs: number;
  readonly linkTarget: string;
  readonly uid: number;
  readonly gid: number;
  readonly realPath: string;
  readonly device: string;
  readonly inode: string;
}

export interface PackRequest {
  readonly path: string;
  readonly followLink: boolean;
  readonly name: string;
  /** Keep owners (`cp -a`); otherwise everything belongs to root. */
  readonly archive?: boolean;
  readonly outputPath: string;
}

export interface UnpackRequest {
  readonly inputPath: string;
  readonly length: number;
  readonly directory: string;
  /** What the top entry is called; `.` puts what is below it right into the directory. */
  readonly name: string;
  /** Keep owners and set-id bits (`cp -a`); otherwise everything belongs to the caller. */
  readonly archive?: boolean;
}

export interface ProgramRequest {
  readonly path: string;
  /** argv, argv[0] included. */
  readonly args: readonly string[];
  /** Undefined: the caller's. */
  readonly env?: readonly string[];
  readonly cwd?: string;
  readonly stdin: Uint8Array;
  /** Killed then; 0: no limit. */
  readonly timeoutMs: number;
  /** Its network, IPC and UTS namespaces are those of this process (in the caller's pid namespace). */
  readonly namespacesOf?: number;
}

export interface ProgramEnd {
  readonly code: number | undefined;
  readonly signal: number | undefined;
  readonly timedOut: boolean;
  /** Its first 512 KiB. */
  readonly stdout: Buffer;
  /** Its last 4 KiB. */
  readonly stderr: string;
}

/** See docs/stand-in.md. */
export interface StandInRequest {
  readonly controlPath: string;
  readonly socketPath?: string;
  readonly shares: readonly {
    readonly name: string;
    readonly path: string;
    readonly readonly: boolean;
    readonly create: boolean;
    readonly recursive?: boolean;
    readonly at?: string;
    /** Ranges of ids: as the file system has them, as they are shown, how many. */
    readonly idMap?: {
      readonly uids: readonly (readonly [number, number, number])[];
      readonly gids: readonly (readonly [number, number, number])[];
      readonly recursive: boolean;
    };
  }[];
  readonly server?: readonly string[];
  readonly stdio?: 'none' | 'inherit' | 'terminal';
  readonly consoleSocket?: string;
  readonly title?: readonly string[];
  readonly root?: string;
  readonly mountPoints?: readonly {
    readonly path: string;
    readonly directory?: boolean;
    readonly share?: string;
  }[];
  readonly cgroups?: readonly { readonly mount: string; readonly path: string }[];
  readonly namespaces?: {
    readonly new?: readonly ('pid' | 'network' | 'ipc' | 'uts')[];
    readonly join?: readonly { readonly type: string; readonly path: string }[];
    readonly of?: number;
  };
  readonly servedBy?: number;
}

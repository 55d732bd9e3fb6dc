/** What takes part in a race, and what it is asked to do. */

/** What is moved, which way and how often at once. */
export interface Load {
  /** As in `push, 10 clients`. */
  title: string
  direction: Direction
  clients: number
  /** Many small files instead of one large one. */
  isTree: boolean
  /** Of one copy. */
  sourceBytes: number
  /** Of one copy. */
  files: number
}

export type Direction = 'push' | 'pull'

/** Where one contender moves the load. */
export interface Place {
  load: Load
  /** The file or tree. */
  source: string
  /** What its server serves: the folder of the source for a pull, and of the copies for a push. */
  root: string
  /** Where copies are found when a move is over; nothing else is there. */
  copies: string
  /** For whatever else it needs. */
  scratch: string
}

export interface Contender {
  name: string
  /** xferd, the kernel's limit, or another program. */
  kind: 'xferd' | 'ceiling' | 'peer'
  /** Worker threads of its server. */
  threads?: number
  /** Whether it stores copies that can be looked at after a move. */
  keepsCopies: boolean
  /** Gets ready. Throws, with the reason and the remedy, if it can't take part. */
  start(place: Place): Promise<Session>
}

/** One that is ready to move its load, again and again. */
export interface Session {
  version?: string
  move(): Promise<Figures>
  stop(): Promise<void>
}

/** What one move took. */
export interface Figures {
  seconds: number
  server?: Cost
  client?: Cost
  /** Of both sides, where they can't be told apart. */
  cpuSeconds?: number
}

/** What one process spent on one move; `undefined` where the system does not tell. */
export interface Cost {
  cpuSeconds: number | undefined
  /** The most memory it had. */
  peakBytes: number | undefined
  /** The same, above what it had before its first move. */
  grownBytes: number | undefined
}

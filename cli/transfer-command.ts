import * as Flags from '@oclif/core/flags'
import type { InferredFlags } from '@oclif/core/interfaces'
import {
  type Client,
  connect,
  type Receipt,
  type Transfer,
  type TransferOptions,
  XferdError,
} from '../src/index.js'
import { BACKENDS } from './backends.js'
import { XferdCommand } from './command.js'
import { PROGRESS_MODES, showProgress } from './progress.js'
import { formatBytes, formatCount, formatRate } from './text.js'

/** The flags of push and pull. */
export const transferFlags = {
  clients: Flags.integer({
    default: 1,
    min: 1,
    helpValue: 'N',
    description: 'transfer N copies at once, each under its own name: {n} in the name, or .0, .1 … after it',
  }),
  streams: Flags.integer({
    default: 1,
    min: 1,
    helpValue: 'N',
    description:
      'connections that share out the files of a tree, and the parts of large files that are pushed',
  }),
  digest: Flags.option({ options: ['crc64nvme', 'blake3', 'none'] as const })({
    default: 'crc64nvme',
    description: 'how to prove that what arrives is what was sent',
  }),
  include: Flags.string({
    multiple: true,
    multipleNonGreedy: true,
    helpValue: 'GLOB',
    description: 'transfer only what matches; may be given again',
  }),
  exclude: Flags.string({
    multiple: true,
    multipleNonGreedy: true,
    helpValue: 'GLOB',
    description: 'leave out what matches; may be given again, and beats --include',
  }),
  checksum: Flags.boolean({
    char: 'c',
    exclusive: ['ignore-times'],
    description:
      'leave out files of the same content, told by digests, and not those of the same size and time',
  }),
  'ignore-times': Flags.boolean({
    char: 'I',
    description: 'transfer files of the same size and time, too, which are left out otherwise',
  }),
  'dry-run': Flags.boolean({ description: 'tell what would be transferred, and transfer nothing' }),
  backend: Flags.option({ options: BACKENDS })({
    description:
      "what waits for this side's connections; auto takes io_uring where it can be had and is better",
  }),
  fsync: Flags.boolean({ description: 'synchronise each file to disk before it counts as stored' }),
  progress: Flags.option({ options: PROGRESS_MODES })({
    default: 'auto',
    description:
      'on stderr: auto is bars on a terminal and a line every few seconds elsewhere, jsonl an object a line',
  }),
  quiet: Flags.boolean({ char: 'q', description: 'no progress and no summary' }),
}

type TransferFlags = InferredFlags<typeof transferFlags>

/** push and pull: one transfer with progress, which SIGINT and SIGTERM abort cleanly, and its summary. */
export abstract class TransferCommand extends XferdCommand {
  /** @param verb for the summary, as in "pushed" */
  protected async transfer(
    verb: string,
    server: string,
    flags: TransferFlags,
    begin: (client: Client, options: TransferOptions) => Transfer,
  ): Promise<unknown> {
    const interruption = new AbortController()
    const interrupt = (signal: NodeJS.Signals): void =>
      interruption.abort(new Error(`interrupted by ${signal}`))
    process.once('SIGINT', interrupt).once('SIGTERM', interrupt)
    try {
      const { signal } = interruption
      const { backend } = flags
      await using client = await connect(server, { signal, ...(backend === undefined ? {} : { backend }) })
      const transfer = begin(client, { ...transferOptions(flags), signal })
      await showProgress(transfer, flags.quiet ? 'none' : flags.progress)
      const receipt = await transfer
      if (!flags.quiet && !this.jsonEnabled()) {
        this.tell(summary(flags['dry-run'] ? `would have ${verb}` : verb, receipt))
      }
      return { ...figures(receipt), clients: flags.clients, backend: client.backend.name, ...usage() }
    } finally {
      process.off('SIGINT', interrupt).off('SIGTERM', interrupt)
    }
  }

  protected override async catch(error: Error): Promise<void> {
    await super.catch(error)
    if (this.jsonEnabled() || !(error instanceof XferdError)) return
    const [, ...others] = error.receipt?.failures ?? []
    for (const { path, error } of others) this.tell(`  ${path}: ${error.message}`)
  }

  /** A partial transfer tells what was done, too. */
  protected override toErrorJson(error: XferdError): unknown {
    const { receipt } = error
    return receipt
      ? { error, ...figures(receipt), failed: receipt.failed, failures: receipt.failures }
      : { error }
  }
}

function transferOptions(flags: TransferFlags): TransferOptions {
  return {
    clients: flags.clients,
    streams: flags.streams,
    digest: flags.digest,
    durable: flags.fsync,
    include: flags.include ?? [],
    exclude: flags.exclude ?? [],
    checksum: flags.checksum,
    ignoreTimes: flags['ignore-times'],
    dryRun: flags['dry-run'],
  }
}

function figures(receipt: Receipt) {
  const { files, unchanged, unchangedBytes, bytes, resumedBytes, seconds, digest, writePaths } = receipt
  const mb_per_s = seconds > 0 ? (bytes - resumedBytes) / 1e6 / seconds : 0
  return {
    files,
    bytes,
    unchanged,
    unchanged_bytes: unchangedBytes,
    resumed_bytes: resumedBytes,
    seconds,
    mb_per_s,
    digest: digest ?? null,
    write_paths: writePaths,
  }
}

/** Of this process: what the transfer cost. */
function usage() {
  const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage()
  return { cpu_s: (userCPUTime + systemCPUTime) / 1e6, max_rss_bytes: maxRSS * 1024 }
}

function summary(verb: string, receipt: Receipt): string {
  const { files, unchanged, bytes, resumedBytes, seconds, digest } = receipt
  const resumed = resumedBytes > 0 ? `, ${formatBytes(resumedBytes)} of it there already,` : ''
  const rate = formatRate((bytes - resumedBytes) / seconds)
  const speed = seconds > 0 ? ` in ${seconds.toFixed(2)} s, ${rate}` : ''
  const rest = unchanged > 0 ? `; ${unchanged.toLocaleString('en')} unchanged` : ''
  return `${verb} ${formatCount(files, 'file')}, ${formatBytes(bytes)}${resumed}${speed}${digest ? ` (${digest})` : ''}${rest}`
}

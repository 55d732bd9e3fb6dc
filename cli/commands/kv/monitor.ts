import { KvCommand, kvFlags, urlArg } from '../../kv/command.js'
import { put } from '../../kv/output.js'
import { jsonOf, quoted } from '../../kv/replies.js'

export class KvMonitor extends KvCommand {
  static override summary = 'Print every command that any client gives, until it is interrupted.'
  static override description =
    'A line each: when, the database and the client, the command. With --json, an object a line. It costs the server more than all the clients do. If the connection is lost it connects again.'
  static override examples = [
    '<%= config.bin %> kv monitor kv://127.0.0.1',
    '<%= config.bin %> kv monitor kv://127.0.0.1 --json | jq .args',
  ]
  static override args = { url: urlArg }
  static override flags = kvFlags

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(KvMonitor)
    await using kv = await this.connect(args.url, flags)
    for await (const { args: words, ...rest } of kv.with({ buffers: true }).monitor()) {
      const line = this.jsonEnabled()
        ? JSON.stringify({ ...rest, args: words.map(jsonOf) })
        : `${rest.at.toFixed(6)} [${rest.database} ${rest.peer}] ${words.map(quoted).join(' ')}`
      await put(`${line}\n`)
    }
  }
}

/** The very record that the call was recognised by: the CRM's own page, and what was read of it. */
import type { Contact } from "./api";
import { session } from "./state";
import { plain, recordAddress } from "./words";

const SHOWN_ELSEWHERE = new Set(["id", "first_name", "last_name", "reference", "record_url"]);

export function Record({ contact }: { contact: Contact | null }) {
  if (contact === null)
    return (
      <section class="record empty" aria-label="Customer record">
        <p>No customer record: the caller was not recognised.</p>
      </section>
    );
  const address = recordAddress(contact.record_url, session.value?.record_origins ?? []);
  return (
    <section class="record" aria-label="Customer record">
      <header>
        <h2>Customer record</h2>
        {contact.reference !== "" && <span class="reference">{contact.reference}</span>}
        {address !== null && (
          <a href={address} target="_blank" rel="noopener noreferrer">
            Open in a new tab
          </a>
        )}
      </header>
      {address === null ? (
        <Fields contact={contact} />
      ) : (
        <iframe
          src={address}
          title="Customer record in the CRM"
          referrerpolicy="no-referrer"
          sandbox="allow-scripts allow-forms allow-same-origin allow-popups"
        />
      )}
    </section>
  );
}

function Fields({ contact }: { contact: Contact }) {
  const fields = Object.entries(contact).filter(([name, value]) => !SHOWN_ELSEWHERE.has(name) && ["string", "number", "boolean"].includes(typeof value));
  return (
    <dl class="facts">
      {fields.map(([name, value]) => (
        <div key={name}>
          <dt>{plain(name)}</dt>
          <dd>{String(value)}</dd>
        </div>
      ))}
    </dl>
  );
}

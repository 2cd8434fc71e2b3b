export function Brand() {
  return (
    <span class="brand">
      <span class="mark" aria-hidden="true" />
      callwright
    </span>
  );
}

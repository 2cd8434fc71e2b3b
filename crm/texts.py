"""What the CRM says about an order, in the languages of its contacts.

`SPOKEN[language][status]` completes the sentence "Your order 104725 ..." ("Ihre Bestellung ...", "Su pedido ...").
`PAGE[language]` holds the words of the order status page.
"""

from __future__ import annotations

STEPS = ("ordered", "packed", "shipped", "delivered")

SPOKEN = {
    "en": {
        "ordered": "has been received and is being prepared",
        "packed": "is packed and waits for the courier",
        "shipped": "has been shipped and is on its way",
        "delivered": "has been delivered",
        "cancelled": "was cancelled",
    },
    "de": {
        "ordered": "ist eingegangen und wird vorbereitet",
        "packed": "ist gepackt und wartet auf die Abholung",
        "shipped": "wurde versandt und ist unterwegs",
        "delivered": "wurde zugestellt",
        "cancelled": "wurde storniert",
    },
    "es": {
        "ordered": "ha sido recibido y se está preparando",
        "packed": "está empaquetado y espera al mensajero",
        "shipped": "ha sido enviado y está en camino",
        "delivered": "ha sido entregado",
        "cancelled": "fue cancelado",
    },
}

PAGE = {
    "en": {
        "ordered": "Ordered",
        "packed": "Packed",
        "shipped": "Shipped",
        "delivered": "Delivered",
        "cancelled": "Cancelled",
        "order": "Your order",
        "eta": "Expected on",
        "items": "What you ordered",
        "history": "What happened so far",
        "total": "Total",
        "live": "This page shows the present state and refreshes itself every minute.",
        "progress": "Progress",
    },
    "de": {
        "ordered": "Bestellt",
        "packed": "Gepackt",
        "shipped": "Versandt",
        "delivered": "Zugestellt",
        "cancelled": "Storniert",
        "order": "Ihre Bestellung",
        "eta": "Voraussichtlich am",
        "items": "Das haben Sie bestellt",
        "history": "Bisheriger Verlauf",
        "total": "Summe",
        "live": "Diese Seite zeigt den aktuellen Stand und erneuert sich jede Minute.",
        "progress": "Fortschritt",
    },
    "es": {
        "ordered": "Pedido",
        "packed": "Empaquetado",
        "shipped": "Enviado",
        "delivered": "Entregado",
        "cancelled": "Cancelado",
        "order": "Su pedido",
        "eta": "Previsto para el",
        "items": "Lo que ha pedido",
        "history": "Lo que ha pasado hasta ahora",
        "total": "Total",
        "live": "Esta página muestra el estado actual y se actualiza cada minuto.",
        "progress": "Progreso",
    },
}

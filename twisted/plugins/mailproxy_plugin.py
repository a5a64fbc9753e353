from twisted.application.service import ServiceMaker

mailproxy = ServiceMaker("mailproxy", "mailproxy.tap", "Mail relay with a REST API.", "mailproxy")
